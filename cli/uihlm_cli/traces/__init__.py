"""The commands about traces: one makes a pack of what both ends know of each token, one scores upload rules on it."""
