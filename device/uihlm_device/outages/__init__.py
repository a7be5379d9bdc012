"""What becomes of an answer whose base station is gone: the rule, and a session that outlives its streams."""
