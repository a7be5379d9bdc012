"""Forwards that do not fit side by side take turns; those that do, do not wait."""

import threading

import pytest

from uihlm_models import bundled
from uihlm_models.llama import turns
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings


@pytest.mark.parametrize(
    ("threads", "cores", "on_cpu", "waits"),
    [(2, 2, True, True), (3, 4, True, True), (2, 4, True, False), (1, 2, True, False), (8, 2, False, False)],
)
def test_who_takes_turns(threads, cores, on_cpu, waits, monkeypatch):
    monkeypatch.setattr(turns, "available_cores", lambda: cores)
    with turns.turn(threads, on_cpu):
        assert turns._TURN.locked() is waits
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
