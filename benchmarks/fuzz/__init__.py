"""Generated and mutated messages, in any order, against a live base station: `python -m benchmarks.fuzz`."""
