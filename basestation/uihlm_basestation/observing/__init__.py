"""A base station seen from outside: what happens in it is told through one seam, `telemetry`, to those who listen."""
