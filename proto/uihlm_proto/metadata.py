"""Names of what goes beside the messages of a call."""

from __future__ import annotations

# Trailing, of a refusal: seconds after which asking again may help.
RETRY_AFTER = "retry-after-s"
# Of a stream that takes the place of one that was lost: for the device's own link, which goes on where that one left off.
AGAIN = "uihlm-again"
