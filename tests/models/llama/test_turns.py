"""Forwards that do not fit side by side take turns, in an engine's thread if there is one; those that do, do not wait."""

import threading

import pytest

from uihlm_models import bundled
from uihlm_models.forward_thread import ForwardThread
from uihlm_models.llama import turns
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings


@pytest.fixture(autouse=True)
def _nobodys_thread(monkeypatch):
    monkeypatch.setattr(turns._HOST, "thread", None)
    monkeypatch.setattr(turns._HERE, "has_team", False)


@pytest.fixture
def crowded(monkeypatch):
    """One core: no two forwards fit."""
    monkeypatch.setattr(turns, "available_cores", lambda: 1)
    return turns.turn(1, on_cpu=True)


@pytest.fixture
def engine():
    engine = ForwardThread("engine")
    yield engine
    engine.end()
    engine.join(10.0)


@pytest.mark.parametrize(
    ("threads", "cores", "on_cpu", "waits"),
    [(2, 2, True, True), (3, 4, True, True), (2, 4, True, False), (1, 2, True, False), (8, 2, False, False)],
)
def test_who_takes_turns(threads, cores, on_cpu, waits, monkeypatch):
    monkeypatch.setattr(turns, "available_cores", lambda: cores)
    assert turns.turn(threads, on_cpu)(turns._TURN.locked) is waits
    assert not turns._TURN.locked()


@pytest.mark.parametrize(("cores", "waits"), [(1, True), (2, False)])
def test_a_forward_waits_for_another_one_and_then_runs(cores, waits, monkeypatch):
    monkeypatch.setattr(turns, "available_cores", lambda: cores)
    with LlamaRuntime(bundled.slm_path(), RuntimeSettings(n_ctx=64, n_threads=1, gpu_layers=0)) as runtime:
        forward = threading.Thread(target=runtime.decode_one, args=(7, 0))
        with turns._TURN:
            forward.start()
            # A forward takes some ten milliseconds.
            forward.join(0.5 if waits else 60.0)
            waited = forward.is_alive()
        # Whatever came of it, nothing may run in memory that is freed.
        forward.join()
        assert waited is waits
        assert runtime.logits().shape == (1, runtime.vocabulary_size)


def test_forwards_go_where_an_engine_has_run_one(crowded, engine, monkeypatch):
    released = []
    monkeypatch.setattr(turns, "release_team", lambda: released.append(threading.current_thread()))
    here = threading.current_thread()
    assert crowded(threading.current_thread) is here
    assert engine.call(lambda: crowded(threading.current_thread)) is engine
    assert not released
    for _ in range(3):
        assert crowded(threading.current_thread) is engine
    assert released == [here], "threads of its own that wait for nothing, once"
    with pytest.raises(ZeroDivisionError):
        crowded(lambda: 1 // 0)
    at_will = turns._at_will
    assert at_will(threading.current_thread) is here


def test_forwards_stay_where_they_are_once_the_engine_is_gone(crowded, engine):
    engine.call(lambda: crowded(threading.current_thread))
    engine.end()
    assert crowded(threading.current_thread) is threading.current_thread()
    other = ForwardThread("another engine")
    assert other.call(lambda: crowded(threading.current_thread)) is other
    assert crowded(threading.current_thread) is other
    other.end()
    other.join(10.0)
    third = ForwardThread("a third one")
    # The second is the host still, and dead.
    assert third.call(lambda: crowded(threading.current_thread)) is third
    assert crowded(threading.current_thread) is third
    third.end()


def test_nothing_is_handed_to_a_thread_that_a_fork_has_left_behind(crowded, engine, monkeypatch):
    engine.call(lambda: crowded(threading.current_thread))
    monkeypatch.setattr(engine, "is_alive", lambda: False)
    assert crowded(threading.current_thread) is threading.current_thread()


def test_two_engines_keep_their_threads_and_take_turns(crowded, engine):
    other, entered, held, locked = ForwardThread("another engine"), threading.Event(), threading.Event(), []
    engine.call(lambda: crowded(threading.current_thread))
    assert other.call(lambda: crowded(threading.current_thread)) is other
    engine.put(lambda: crowded(lambda: (entered.set(), held.wait(10.0))))
    assert entered.wait(10.0)
    other.put(lambda: crowded(lambda: locked.append("in turn")))
    other.join(0.2)
    assert not locked
    held.set()
    other.end()
    other.join(10.0)
    assert locked == ["in turn"]


def test_a_forward_gives_the_same_logits_wherever_it_runs(engine, monkeypatch):
    monkeypatch.setattr(turns, "available_cores", lambda: 1)
    with LlamaRuntime(bundled.slm_path(), RuntimeSettings(n_ctx=64, n_threads=2, gpu_layers=0)) as runtime:
        runtime.decode_one(7, 0)
        mine = runtime.logits().copy()
        runtime.truncate(0, 0)
        engine.call(lambda: runtime.decode_one(7, 0))
        runtime.truncate(0, 0)
        runtime.decode_one(7, 0)
        assert turns._HOST.thread is engine
        assert (runtime.logits() == mine).all()
