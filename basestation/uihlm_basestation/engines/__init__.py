"""The LLM behind one Protocol: llama.cpp and Torch, alone, over shared paths and over draft trees."""
