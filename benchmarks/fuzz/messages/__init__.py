"""What is said: right, wrong, mutated; and the books that a device would keep of it."""
