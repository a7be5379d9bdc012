"""One run over prompts: its settings, its files, its results."""
