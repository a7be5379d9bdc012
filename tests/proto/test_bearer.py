"""Bearer tokens: their form, and that nothing shows them."""

import pickle

import pytest

from uihlm_proto.bearer import Token, find_tokens, read_tokens, shown_digest
from uihlm_proto.errors import AccessError

SECRET = "correct-horse_battery.staple~42"


def test_a_token_hides_its_secret():
    token = Token(SECRET)
    assert SECRET not in f"{token!r} {token} {[token]} {token.digest!r}"
    assert token.header == ("authorization", f"Bearer {SECRET}")


def test_a_token_crosses_to_another_process():
    assert pickle.loads(pickle.dumps(Token(SECRET))) == Token(SECRET)


@pytest.mark.parametrize(
    "bad",
    ["", "short", "x" * 1025, "with a space in the middle", "new\nline-in-the-token", "ünïcödé-tökens-here", "a=b" * 9],
)
def test_what_is_no_token_is_refused_without_telling_it(bad):
    with pytest.raises(AccessError) as raised:
        Token(bad)
    assert "secrets.token_urlsafe" in str(raised.value)
    assert not bad or bad not in str(raised.value)


def test_tokens_stand_one_a_line():
    text = f"# the cell's devices\n\n  {SECRET}  \n{SECRET[::-1]}\n"
    assert read_tokens(text, "file") == (Token(SECRET), Token(SECRET[::-1]))


def test_a_bad_line_is_named_by_its_number_alone():
    with pytest.raises(AccessError, match=r"tokens\.txt, line 2: a token has 16") as raised:
        read_tokens(f"{SECRET}\nhunter2\n", "tokens.txt")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "\n \n", "# none yet\n"])
def test_a_file_without_tokens_is_refused(text):
    with pytest.raises(AccessError, match="holds no token"):
        read_tokens(text, "file")


def test_the_file_wins_over_the_variable(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(SECRET)
    assert find_tokens(file, SECRET[::-1]) == (Token(SECRET),)
    assert find_tokens(None, SECRET[::-1]) == (Token(SECRET[::-1]),)
    assert find_tokens(None, None) == find_tokens(None, "") == ()


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "tokens"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AccessError, match="is no text file"):
        find_tokens(file, None)


def test_what_a_call_shows():
    token = Token(SECRET)
    assert shown_digest([token.header]) == token.digest
    assert shown_digest([("x", "y"), ("authorization", f"bearer {SECRET} ")]) == token.digest
    assert shown_digest([("authorization", f"Bearer {SECRET}".encode())]) == token.digest
    for nothing in (
        [],
        [("authorization", SECRET)],
        [("authorization", f"Basic {SECRET}")],
        [token.header, token.header],
    ):
        assert shown_digest(nothing) is None
    assert shown_digest([("authorization", f"Bearer {SECRET}x")]) != token.digest
