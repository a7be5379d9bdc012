"""The two commands, `uihlm-bs` and `uihlm-device`: parsing and rendering only."""

import os

from uihlm_cli.runs.memory import keep_large_blocks

# gRPC's C core logs connections that end as they should; it reads this once, when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
keep_large_blocks()
