"""How much one base station carries: `python -m benchmarks.cell`."""
