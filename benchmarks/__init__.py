"""Timings that can be trusted: everything as a ratio within one run, medians with their spread."""
