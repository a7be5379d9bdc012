"""Trace packs: what both ends know of every drafted token, on disk, so that upload rules can be scored without a model."""
