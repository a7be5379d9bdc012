"""The report's figures, one family a module, in one style."""
