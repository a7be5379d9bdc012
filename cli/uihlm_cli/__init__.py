"""The two commands, `uihlm-bs` and `uihlm-device`: parsing and rendering only."""

import os

from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_models.openmp import load_openmp

# gRPC's C core logs connections that end as they should; it reads this once, when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
keep_large_blocks()
# Before Torch, which may be the first to need it.
load_openmp()
