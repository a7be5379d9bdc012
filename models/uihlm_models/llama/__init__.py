"""Models that llama.cpp runs: the library, one context, a pool of sequences, the tokenizer of a GGUF."""
