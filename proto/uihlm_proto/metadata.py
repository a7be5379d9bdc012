"""Names of calls, and of what goes beside their messages."""

from __future__ import annotations

# The method whose calls are sessions.
VERIFY_METHOD = "/uihlm.v1.VerificationService/Verify"
# Trailing, of a refusal: seconds after which asking again may help.
RETRY_AFTER = "retry-after-s"
# Of a stream that takes the place of one that was lost: for the device's own link, which goes on where that one left off.
AGAIN = "uihlm-again"
