"""The flags of a pool: what goes together, what Ray's ingress cannot keep, and what a replica is told."""

import sys

import pytest
from click.testing import CliRunner

from uihlm_basestation.engines.loading import EngineSettings
from uihlm_basestation.pool import ray_pool
from uihlm_basestation.pool.ray_pool import PoolSettings, _check_room
from uihlm_basestation.pool.replica import load_named
from uihlm_cli import basestation
from uihlm_cli.station import serve as serve_command
from uihlm_proto.addresses import Address
from uihlm_proto.errors import InvalidRequestError, UihlmError

RAY = ("serve", "--engine-pool", "ray")


def invoke(*arguments: str):
    return CliRunner().invoke(basestation.main, [*arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--replicas", "2"), "--replicas is of a pool"),
        (("serve", "--max-replicas", "2"), "--max-replicas is of a pool"),
        (("serve", "--ray-address", "auto"), "--ray-address is of a pool"),
        ((*RAY, "--replicas", "3", "--max-replicas", "2", "--insecure"), "--max-replicas is below --replicas"),
        (RAY, "listens on every address of this machine"),
        ((*RAY, "--insecure", "--metrics-port", "0"), "Ray serves metrics of its own"),
        ((*RAY, "--insecure", "--health-port", "0"), "--health-port is of one process: ask Ray"),
        ((*RAY, "--insecure", "--reflection"), "--reflection is of one process"),
    ],
)
def test_what_does_not_go_together_exits_2_before_anything_is_loaded(monkeypatch, arguments, words):
    monkeypatch.setattr(serve_command, "load_engine", None)
    monkeypatch.setattr(ray_pool, "serve_pool", None)
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "") and words in " ".join(result.stderr.split())


def test_flags_reach_the_pool(monkeypatch):
    given = []

    def serve_pool(load, settings, port, serving, tokens, stop, on_ready):
        given.append((load.func, load.args, settings, port, serving.chunk, tokens))
        on_ready("an LLM", Address("::", 7))
        assert not stop.is_set()

    monkeypatch.setattr(ray_pool, "serve_pool", serve_pool)
    result = invoke(
        *(*RAY, "--insecure", "--model", "m.gguf", "--port", "7", "--replicas", "2", "--max-replicas", "5"),
        *("--gpus-per-replica", "0.5", "--cpus-per-replica", "2", "--max-sessions", "8", "--ray-address", "auto"),
        *(
            "--target-sessions",
            "3",
            "--grace-s",
            "4",
            "--application",
            "cell",
            "--prefill-chunk",
            "64",
            "--threads",
            "2",
        ),
    )
    assert (result.exit_code, result.stdout) == (0, "ready: 2 x an LLM on [::]:7\n")
    assert result.stderr == "loading m.gguf …\nstopped\n"
    ((load, (model, engine), settings, port, chunk, tokens),) = given
    assert (load, model, port, chunk, tokens) == (load_named, "m.gguf", 7, 64, None)
    assert (engine.max_sessions, engine.threads) == (8, 2) and isinstance(engine, EngineSettings)
    assert settings == PoolSettings(2, 5, 3.0, 8, 2.0, 0.5, 4.0, "auto", "cell")


def test_options_are_what_ray_serve_calls_them():
    fixed = PoolSettings(replicas=2, max_sessions=16, cpus=1.5, gpus=0.5, grace_s=7.0).options
    assert fixed["num_replicas"] == 2 and fixed["ray_actor_options"] == {"num_cpus": 1.5, "num_gpus": 0.5}
    assert fixed["max_ongoing_requests"] > 16, "it is the servicer that refuses, in its own words"
    assert fixed["graceful_shutdown_timeout_s"] == 7.0 and "autoscaling_config" not in fixed
    grown = PoolSettings(replicas=1, max_replicas=4, max_sessions=16).options
    assert grown["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 12.0}
    assert "num_replicas" not in grown


@pytest.mark.parametrize("numbers", [(0, None), (3, 2)])
def test_numbers_of_replicas_that_cannot_be_are_refused(numbers):
    with pytest.raises(InvalidRequestError, match="a pool has one replica or more"):
        PoolSettings(*numbers)


def test_replicas_that_do_not_fit_are_not_waited_for():
    _check_room(PoolSettings(replicas=2, cpus=1.0), {"CPU": 2.0})
    with pytest.raises(UihlmError, match=r"3 replicas with 1 CPU each.*--cpus-per-replica"):
        _check_room(PoolSettings(replicas=3, cpus=1.0), {"CPU": 2.0})
    with pytest.raises(UihlmError, match=r"2 replicas with 0.75 GPU each.*has 1"):
        _check_room(PoolSettings(replicas=2, cpus=0, gpus=0.75), {"CPU": 2.0, "GPU": 1.0})


def test_without_ray_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = invoke(*RAY, "--insecure", "--port", "0")
    assert result.exit_code == 1 and "pip install 'uihlm[ray]'" in result.stderr
