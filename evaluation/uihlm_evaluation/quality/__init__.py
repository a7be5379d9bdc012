"""How good an answer is, and how sure one can be of a mean."""
