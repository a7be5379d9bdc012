"""What both ends must agree on bit for bit: messages, codecs, shared randomness, tokenizer fingerprint."""
