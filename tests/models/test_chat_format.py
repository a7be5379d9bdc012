"""Turns rendered one by one are the turns of the whole conversation."""

import pytest

from uihlm_models import bundled
from uihlm_models.chat_format import ChatFormat
from uihlm_models.errors import ModelError
from uihlm_models.llama.tokenizer import LlamaTokenizer

LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)


class LetterTokenizer:
    """One id a character, special pieces aside: what is tested is where the template is cut."""

    vocabulary_size = 1 << 16
    bos_text, eos_text = "<s>", "</s>"
    stop_ids = frozenset({2})

    def __init__(self, chat_template):
        self.chat_template = chat_template

    def encode(self, text):
        return [ord(c) for c in text.replace("</s>", "\x02").replace("<s>", "\x01")]

    def piece(self, token):
        return b"" if token < 3 else chr(token).encode()

    def decode(self, ids):
        return "".join({1: "<s>", 2: "</s>"}.get(i, chr(i)) for i in ids)

    def pieces(self):
        return []


def test_stopped_answer_is_not_closed_twice():
    tokenizer = LetterTokenizer(LLAMA_2)
    chat = ChatFormat(tokenizer)
    assert tokenizer.decode(chat.first_turn("Hi")) == "<s>[INST] Hi [/INST]"
    assert tokenizer.decode(chat.next_turn("More", stopped=True)) == "<s>[INST] More [/INST]"
    assert tokenizer.decode(chat.next_turn("More", stopped=False)) == " </s><s>[INST] More [/INST]"


def test_user_who_writes_the_sentinel_is_still_understood():
    tokenizer = LetterTokenizer(LLAMA_2)
    text = "UIHLM-ANSWER-6f1c0e"
    assert tokenizer.decode(ChatFormat(tokenizer).next_turn(text, stopped=True)) == f"<s>[INST] {text} [/INST]"


def test_refusals_of_the_template_are_model_errors():
    with pytest.raises(ModelError, match="no system role"):
        ChatFormat(LetterTokenizer(LLAMA_2)).first_turn("Hi", system="Be brief.")
    with pytest.raises(ModelError, match="no chat template"):
        ChatFormat(LetterTokenizer(None))
    with pytest.raises(ModelError, match="cannot be parsed"):
        ChatFormat(LetterTokenizer("{% for %}"))
    with pytest.raises(ModelError, match="one turn only"):
        ChatFormat(LetterTokenizer("{{ messages[-1]['content'] }}")).next_turn("Hi", stopped=True)


def test_template_cannot_reach_python():
    with pytest.raises(ModelError):
        ChatFormat(LetterTokenizer("{{ ''.__class__.__mro__[1].__subclasses__() }}")).first_turn("Hi")


@pytest.fixture(scope="module")
def tokenizer():
    return LlamaTokenizer.from_file(bundled.llm_path())


@pytest.mark.slow
def test_next_turn_is_the_tail_of_the_full_render(tokenizer):
    chat = ChatFormat(tokenizer)
    answer = tokenizer.encode("Blue, most days.")
    stop = tokenizer.encode("<|im_end|>")
    full = tokenizer.encode(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat colour is the sky?<|im_end|>\n<|im_start|>assistant\nBlue, most days.<|im_end|>\n"
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    first = chat.first_turn("What colour is the sky?")
    assert [*first, *answer, *stop, *chat.next_turn("Why?", stopped=True)] == full
    assert [*first, *answer, *chat.next_turn("Why?", stopped=False)] == full


@pytest.mark.slow
def test_own_system_prompt_replaces_the_templates(tokenizer):
    text = "".join(tokenizer.pieces()[i] for i in ChatFormat(tokenizer).first_turn("Hi", system="Be brief."))
    assert "brief" in text
    assert "SmolLM" not in text


def test_a_mark_for_training_counts_as_its_body():
    marked = LLAMA_2.replace("{{ ' ' + m['content']", "{% generation %}{{ ' ' + m['content']").replace(
        "eos_token }}{% endif", "eos_token }}{% endgeneration %}{% endif"
    )
    plain, tagged = (ChatFormat(LetterTokenizer(template)) for template in (LLAMA_2, marked))
    assert tagged.next_turn("More", stopped=False) == plain.next_turn("More", stopped=False)


@pytest.mark.parametrize("wrong", ["{{ 'a'.encode().decode('u') }}", "{{ (1).nothing.more }}"])
def test_a_template_that_fails_as_a_program_is_a_model_error(wrong):
    with pytest.raises(ModelError, match="refuses this conversation"):
        ChatFormat(LetterTokenizer("{{ bos_token }}" + wrong)).first_turn("Hi")
