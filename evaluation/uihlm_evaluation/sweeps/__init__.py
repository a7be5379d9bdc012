"""Many rows over the same prompts: the grid, its controls, and how they run side by side."""
