"""The two commands, `uihlm-bs` and `uihlm-device`: parsing and rendering only."""
