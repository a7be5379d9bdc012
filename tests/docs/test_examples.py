"""The policy, the codec and the engine that the pages show, installed as their packages say and held to their contracts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chi_square import X, Y, ids, p_value, served
from fakes import Bench, FakeDrafter, FakeEngine, contextual, fixed, mixed, serving
from pages import ROOT, install_package
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.loading import EngineSettings, backends, load_engine
from uihlm_device.rules.policies import PolicySettings
from uihlm_models.errors import ModelError
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto import codecs
from uihlm_proto.codecs import codec, names
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import max_request_bytes
from uihlm_proto.randomness import session_key

KEY = session_key(0, 0)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The packages of all three pages on the path; nothing of them is left behind."""
    for page in ("add-a-policy", "add-a-codec", "add-an-engine"):
        assert install_package(ROOT / "docs" / f"{page}.md", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    codecs._others.cache_clear()
    yield
    codecs._others.cache_clear()
    for module in ("my_policy", "my_codec", "my_engine"):
        sys.modules.pop(module, None)


# The policy


@pytest.mark.usefixtures("packages")
def test_the_policy_uploads_where_the_lead_is_small():
    with serving(FakeEngine(contextual(16, 2), 16)) as address:
        for theta_c, uploaded in ((0.0, 0), (1e9, 24)):
            with Bench(address, FakeDrafter(contextual(16, 1), 16)) as bench:
                records = bench.run("margin", max_tokens=24, settings=PolicySettings(theta_c=theta_c))
            assert sum(record.origin.value != "local" for record in records) == uploaded


# The codec


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("size", [2, 8, 300])
def test_the_codec_sends_what_it_drew_from(size):
    eight = codec("eight", size)
    assert eight.name in names() and names()[-1] == "eight"
    for position in range(50):
        x = np.random.default_rng(position).dirichlet(np.full(size, 0.3))
        drawn = eight.draft(x, KEY, position)
        received = eight.decode(drawn.encode())
        assert received.token == drawn.token
        assert received.x_hat.tobytes() == drawn.x_hat.tobytes()
        assert received.x_hat.sum() == pytest.approx(1.0, abs=1e-12)
        assert len(drawn.encode()) == eight.max_payload_bytes == 41


@pytest.mark.usefixtures("packages")
def test_the_codec_refuses_strangers_bytes():
    eight = codec("eight", 300)
    good = eight.draft(np.full(300, 1 / 300), KEY, 0).encode()
    cells = [good[1 + 5 * i : 6 + 5 * i] for i in range(8)]
    bad = {
        "short": good[:-1],
        "place": b"\x08" + good[1:],
        "weightless": good[:1] + b"".join(cell[:4] + b"\0" for cell in cells),
        "outside": good[:1] + b"\xff\xff\xff\x7f\x01" + good[6:],
        "twice": good[:1] + cells[0] * 2 + b"".join(cells[2:]),
    }
    for name, payload in bad.items():
        with pytest.raises(InvalidRequestError):
            eight.decode(payload)
            pytest.fail(name)
    with pytest.raises(InvalidRequestError, match="takes no parameters"):
        codec("eight:k=4", 300)


@pytest.mark.usefixtures("packages")
def test_hlm_with_the_codec_writes_the_llms_distribution():
    assert p_value(ids(served(fixed(X), fixed(Y), "eight", 6000)), Y) > 1e-3


@pytest.mark.usefixtures("packages")
def test_messages_may_be_as_large_as_the_widest_codec(monkeypatch):
    import my_codec

    before = max_request_bytes(100, 64)
    monkeypatch.setattr(my_codec.Eight.__init__, "__defaults__", ("eight", my_codec.Judge.RESIDUAL, 100_000))
    assert max_request_bytes(100, 64) > before + 5_000_000


def test_without_the_package_the_codec_is_unknown():
    with pytest.raises(InvalidRequestError, match="unknown codec 'eight': this end knows coupled, dense16"):
        codec("eight", 300)


# The engine


@pytest.mark.usefixtures("packages")
def test_the_engine_serves_trees_chains_and_itself_alike():
    assert backends() == ["llama", "torch", "parrot"]
    engine = load_engine(resolve("bundled", Role.TARGET), EngineSettings(backend="parrot", max_context=512))
    size = engine.vocabulary_size
    written = {}
    with serving(engine) as address:
        for way, decode in {"llm": {}, "hlm": {}, "blocks": {"draft_length": 3}, "tree": {"tree": 8}}.items():
            drafter = FakeDrafter(mixed(fixed(np.full(size, 1 / size)), contextual(size, 1), 0.5), size)
            drafter.fingerprint = engine.fingerprint
            with Bench(address, drafter, "coupled") as bench:
                policy = "llm" if way == "llm" else "hlm"
                records = bench.run(policy, [5, 6, 5, 7, 5], max_tokens=12, **decode)
                written[way] = [record.token for record in records]
    assert len(written["llm"]) == 12
    assert written["hlm"] == written["blocks"] == written["tree"] == written["llm"]


@pytest.mark.usefixtures("packages")
def test_the_engine_says_what_followed():
    engine = load_engine(resolve("bundled", Role.TARGET), EngineSettings(backend="parrot"))
    (rows,) = engine.forward([Work(1, 0, [5, 6, 5, 7, 5], 2)])
    assert [np.flatnonzero(row).tolist() for row in rows] == [[], [6, 7]]
    (rows,) = engine.forward([Work(1, 2, [5], 1)])
    assert np.flatnonzero(rows[0]).tolist() == [6]


def test_an_unknown_engine_is_refused_by_name():
    with pytest.raises(ModelError, match="unknown engine 'parrot': known are llama, torch"):
        load_engine(resolve("bundled", Role.TARGET), EngineSettings(backend="parrot"))
