"""A tiny random Llama in a Hugging Face folder, so that the Torch path is tested without real weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Wider than the tokenizer, as real models often are.
VOCABULARY_SIZE = 264
CONTEXT = 1200
LAYERS = 3
HEADS = 4
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"


def write_tiny_llama(folder: Path, **overrides: object) -> Path:
    """Write weights of seed 0 and a byte-level tokenizer (256 letters, two control tokens) and return the folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0, "<|im_end|>": 1} | {letter: i + 2 for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(str(folder))
    torch.manual_seed(0)
    settings = {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": [1, 7],
        "initializer_range": 0.3,  # far from uniform, so that a wrong cache shows
    }
    LlamaForCausalLM(LlamaConfig(**(settings | overrides))).save_pretrained(str(folder))
    return folder


def on_one_thread() -> Iterator[None]:
    """For a fixture: threads that wait for each other on matrices this small take most of the time when the machine is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
