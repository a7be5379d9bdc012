"""What a pair of models is like, measured: a trace of tokens, the law between u and rejection, thresholds, a profile."""
