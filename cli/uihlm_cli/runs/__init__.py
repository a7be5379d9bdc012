"""The commands that run prompts, and those that read what was run."""
