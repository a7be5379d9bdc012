"""What every figure looks like, and where its labels go."""
