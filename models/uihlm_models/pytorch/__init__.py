"""Models that PyTorch runs, by transformers: their files, one cache, rows for many sessions, trees, the tokenizer."""
