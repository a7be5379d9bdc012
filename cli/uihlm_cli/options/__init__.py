"""The flags that commands share, and what they add up to."""
