"""The two commands, `uihlm-bs` and `uihlm-device`: parsing and rendering only."""

import os

# gRPC's C core logs connections that end as they should; it reads this once, when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
