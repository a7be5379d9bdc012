"""What a machine says of itself."""

from uihlm_models import machine

INFO = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: sse avx2 avx\n\nprocessor\t: 1\nmodel name\t: Another\n"


def test_the_first_processor_speaks(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(INFO)
    monkeypatch.setattr(machine, "_CPU_INFO", path)
    assert machine.cpu_model() == "A CPU"
    assert machine.cpu_flags() == ("avx", "avx2", "sse")


def test_a_system_that_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "none")
    assert machine.cpu_model() != ""
    assert machine.cpu_flags() == ()


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _process: {3, 5, 6}, raising=False)
    assert machine.available_cores() == 3
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: None)
    assert machine.available_cores() == 1
