"""What an exact token costs on the air: `python -m benchmarks.uplink`."""
