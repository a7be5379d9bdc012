"""The device's end of the wire."""
