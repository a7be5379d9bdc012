"""`python -m benchmarks`: every figure in one run, resumable."""

import json
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import real_size, startup
from benchmarks.__main__ import Figure

DOCUMENT = {"findings": [{"what": "a ÷ b", "median": 1.5, "low": 1.0, "high": 2.0, "unit": "×", "goal": 1.0}]}


@pytest.fixture
def ran(monkeypatch):
    """The benchmarks that were run, each a fake; `bad` fails."""
    found = []

    def run(figure, flags):
        if figure.module == "bad":
            raise subprocess.CalledProcessError(3, "bad")
        found.append((figure.module, flags))
        return DOCUMENT

    monkeypatch.setattr(benchmarks, "_run", run)
    monkeypatch.setattr(benchmarks, "_has_gpu", lambda: False)
    monkeypatch.setattr(
        benchmarks,
        "FIGURES",
        {"one": Figure("one"), "two": Figure("two", threads=False), "gpu": Figure("gpu", gpu=True)},
    )
    return found


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
    return benchmarks.main()


def test_each_is_run_once_and_kept(ran, monkeypatch, tmp_path, capsys):
    path = tmp_path / "all.json"
    assert call(monkeypatch, "--json", path, "--threads", 1) == 0
    assert ran == [("one", ("--threads", "1")), ("two", ())]
    said = capsys.readouterr()
    assert "| a ÷ b | 1.50 [1.00, 2.00] × | ≥ 1 | yes |" in said.out
    assert "gpu: left out, it needs a GPU" in said.err
    assert call(monkeypatch, "--json", path) == 0
    assert len(ran) == 2 and "a ÷ b" in capsys.readouterr().out
    assert call(monkeypatch, "--json", path, "--again", "--only", "two") == 0
    assert len(ran) == 3
    document = json.loads(path.read_text())
    assert document["figures"].keys() == {"one", "two"} and "packages" in document["provenance"]


def test_one_that_fails_does_not_take_the_others_along(ran, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarks, "FIGURES", {"bad": Figure("bad"), "one": Figure("one")})
    assert call(monkeypatch, "--json", tmp_path / "all.json") == 1
    assert [module for module, _ in ran] == ["one"]
    assert "bad failed with exit code 3" in capsys.readouterr().err


def test_a_look_is_not_put_with_a_measurement(ran, monkeypatch, tmp_path, capsys):
    path = tmp_path / "all.json"
    call(monkeypatch, "--json", path, "--quick")
    assert ran[0] == ("one", ("--quick",))
    with pytest.raises(SystemExit):
        call(monkeypatch, "--json", path)
    assert "holds a look (--quick)" in capsys.readouterr().err


def test_the_older_figures_are_read():
    loop = {"floor": {"ratio": 1.0, "low": 1.0, "high": 1.0}, "slm": {"ratio": 0.95, "low": 0.9, "high": 1.0}}
    (found,) = benchmarks.FIGURES["device-loop"].findings(loop)
    assert found.what == "slm loop ÷ bare llama.cpp loop" and found.goal is not None
    trip = {
        "coupled": {
            "overhead_ms": 1.0, "forward_ms": 19.0, "bare_overhead_ms": 0.9, "bare_forward_ms": 17.1,
            "no_run_on_overhead_ms": 2.0, "no_run_on_forward_ms": 18.0, "bare_trip_ms": 1.6,
        }
    }  # fmt: skip
    share, over, waiting, waited, bare, pace, ratio = benchmarks.FIGURES["round"].findings(trip)
    assert (share.median, share.met, over.median, over.met) == (0.05, True, 1.0, True)
    assert (waiting.median, waiting.goal, waited.median, waited.goal) == (0.1, None, 2.0, None)
    assert (bare.median, bare.goal) == (pytest.approx(0.05), None)
    assert (pace.median, pace.met) == (0.9, False)
    assert (ratio.median, ratio.met) == (0.8, False)


def test_the_real_size_is_refused_without_a_gpu_and_tried_without_one(monkeypatch, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, said in (([], "no GPU here"), (["--device", "cpu"], "only --tiny can be tried")):
        monkeypatch.setattr(sys, "argv", ["real_size", *arguments])
        with pytest.raises(SystemExit) as stopped:
            real_size.main()
        assert stopped.value.code == 2 and said in capsys.readouterr().err
    path = tmp_path / "tiny.json"
    options = ["--tiny", "--device", "cpu", "--context", "24", "--turns", "2", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["real_size", *options])
    real_size.main()
    document = json.loads(path.read_text())
    assert document["rounds"].keys() == {"1", "4"}
    # Two layers of keys and values, 64 wide, two bytes each.
    assert document["kv_position_bytes"] == 2 * 2 * 64 * 2


def test_the_base_install_asks_for_no_engine():
    names = [requirement.split(">")[0].split("[")[0] for requirement in startup.base_requirements()]
    assert "numpy" in names
    assert not {"torch", "transformers", "llama-cpp-python", "matplotlib", "pyarrow", "gguf"} & set(names)
