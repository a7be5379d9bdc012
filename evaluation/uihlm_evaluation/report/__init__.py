"""What is told of a saved run: its files read back, figures, plain statements and a page that holds them all."""
