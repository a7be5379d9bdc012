"""The weight type that a machine runs fastest: measured once, remembered under what it depends on."""

import json

import numpy as np
import pytest

from benchmarks.random_gguf import Shape, write
from uihlm_basestation.engines import fastest as module
from uihlm_basestation.engines.fastest import chosen, fastest, forward_seconds
from uihlm_basestation.engines.loading import EngineSettings
from uihlm_models.errors import ModelError
from uihlm_models.sources import Kind, ModelSource

# Seconds of a forward by type, whatever the batch.
SPEED = {"auto": 2.0, "float16": 1.0, "q8_0": 3.0}


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s


class TimedEngine:
    """An engine whose forwards take known times; it holds that sessions are closed."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.open, self.batches = clock, seconds, set(), []

    def forward(self, work):
        self.clock.now_s += self.seconds
        self.open |= {part.session for part in work}
        self.batches.append(len(work))
        return [np.zeros((part.rows, 8), np.float32) for part in work]

    def close_session(self, session):
        self.open.discard(session)

    def close(self):
        assert self.open == set()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A file, a cache, and engines as fast as SPEED says; returns (source, types that were loaded)."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setenv("UIHLM_CACHE", str(tmp_path / "cache"))
    loaded, clock = [], Clock()

    def load_engine(source, settings):
        loaded.append((settings.weight_type, settings.max_sessions))
        return TimedEngine(clock, SPEED[settings.weight_type])

    monkeypatch.setattr(module, "load_engine", load_engine)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "_candidates", lambda source, backend, say: list(SPEED))
    monkeypatch.setattr(module, "_tidy", lambda *_: None)
    return ModelSource(Kind.GGUF, path, "m"), loaded


def test_the_fastest_is_chosen_once_and_remembered(machine):
    source, loaded = machine
    first = fastest(source, EngineSettings(max_sessions=64))
    assert (first.weight_type, first.remembered) == ("float16", False)
    assert first.seconds["auto"] == {1: 2.0, 4: 2.0, 16: 2.0}
    assert loaded == [(name, 16) for name in SPEED]
    again = fastest(source, EngineSettings(max_sessions=64))
    assert (again.weight_type, again.remembered, again.seconds) == ("float16", True, first.seconds)
    assert len(loaded) == len(SPEED)
    assert "float16, as measured before (forward of 1/4/16 sessions, ms: auto 2000.0/" in str(again)


@pytest.mark.parametrize("what", ["cpu_model", "cpu_flags"])
def test_another_machine_measures_anew(machine, monkeypatch, what):
    source, loaded = machine
    fastest(source, EngineSettings())
    monkeypatch.setattr(module.machine, what, lambda: ("another",))
    assert not fastest(source, EngineSettings()).remembered
    assert len(loaded) == 2 * len(SPEED)


def test_other_threads_and_other_weights_measure_anew(machine):
    source, _ = machine
    fastest(source, EngineSettings(threads=1))
    assert not fastest(source, EngineSettings(threads=2)).remembered
    source.path.write_bytes(b"GGUF, but another")
    assert not fastest(source, EngineSettings(threads=1)).remembered


def test_only_batches_that_are_served_count(machine):
    source, loaded = machine
    assert set(fastest(source, EngineSettings(max_sessions=4)).seconds["auto"]) == {1, 4}
    assert loaded[0] == ("auto", 4)


def test_the_files_own_type_stands_unless_another_is_clearly_faster():
    assert chosen({"auto": {1: 1.0, 4: 1.0}, "float16": {1: 0.98, 4: 0.98}}) == "auto"
    assert chosen({"auto": {1: 1.0, 4: 1.0}, "float16": {1: 0.9, 4: 0.9}}) == "float16"
    # Sizes weigh alike, however long they take.
    assert chosen({"auto": {1: 1.0, 16: 10.0}, "float16": {1: 2.0, 16: 6.0}}) == "auto"


def test_forwards_are_timed_in_turns_after_one_that_does_not_count():
    clock = Clock()
    module_time, module.time = module.time, clock
    try:
        engine = TimedEngine(clock, 1.0)
        times = forward_seconds(engine, (1, 4), repetitions=2)
    finally:
        module.time = module_time
    assert times == {1: [1.0, 1.0], 4: [1.0, 1.0]}
    assert engine.batches[4:] == [1, 4] * 3
    engine.close()


def test_a_memory_that_cannot_be_read_is_no_reason_to_choose_again(machine, tmp_path):
    source, _ = machine
    fastest(source, EngineSettings())
    (kept,) = (tmp_path / "cache" / "weight-types").iterdir()
    assert json.loads(kept.read_text())["weight_type"] == "float16"
    kept.write_text("{")
    with pytest.raises(ModelError, match=r"cannot be read .*: delete the file"):
        fastest(source, EngineSettings())


def test_a_memory_that_cannot_be_kept_is_refused(machine, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UIHLM_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ModelError, match=r"cannot be kept in .*UIHLM_CACHE"):
        fastest(machine[0], EngineSettings())


def test_what_leaves_no_choice_is_refused(machine):
    source, _ = machine
    with pytest.raises(ModelError, match="leave no weight type to choose"):
        fastest(source, EngineSettings(load_in_4bit=True))
    with pytest.raises(ModelError, match="weight types of the engine other are its own"):
        fastest(source, EngineSettings(backend="other"))


def test_a_real_file_is_rewritten_timed_and_tidied(tmp_path, monkeypatch):
    monkeypatch.setenv("UIHLM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    write(path, Shape("tiny", 512, 256, 256, 2, 4, 2, context=256))
    said = []
    choice = fastest(ModelSource(Kind.GGUF, path, "tiny"), EngineSettings(threads=1, max_sessions=4), said.append)
    assert choice.seconds.keys() == {"auto", "float32", "float16", "q8_0", "bfloat16"}
    assert said == [f"timing weights as {name} …" for name in choice.seconds]
    kept = {file.name.split("-")[1] for file in (tmp_path / "cache").glob("*.gguf")}
    assert kept == {choice.weight_type} - {"auto"}
