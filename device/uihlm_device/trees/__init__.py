"""Draft trees: their shape, their chances, and the rounds that send them."""
