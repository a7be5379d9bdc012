"""What can go wrong with models; this package imports none of ours, so it has an error of its own."""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot be found, fetched, loaded or run; the message says what to do."""
