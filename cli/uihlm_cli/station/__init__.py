"""What surrounds the base station's commands: how it is seen from outside, and the live view of one that runs."""
