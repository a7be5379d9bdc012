"""The command `serve` of the device."""
