"""Models: named presets, where weights come from, and the bundled pair."""
