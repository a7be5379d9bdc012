"""The command `chat`."""
