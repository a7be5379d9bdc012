"""The small model: what the loop asks of it, on llama.cpp and on Torch."""
