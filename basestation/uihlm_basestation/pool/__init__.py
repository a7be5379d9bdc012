"""Many replicas of one base station behind one address: Ray Serve's part, kept at the border."""
