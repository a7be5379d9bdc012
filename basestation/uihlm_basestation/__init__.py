"""The base station: verification, LLM engines, batcher, servicer and server."""
