"""The device's end of the wire: channel, sessions on streams, messages."""
