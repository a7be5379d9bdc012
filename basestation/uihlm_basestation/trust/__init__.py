"""Whom the base station serves, how much, and what the way to it hides."""
