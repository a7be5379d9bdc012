"""Build step: write the gRPC stubs from the .proto files before the packages are collected.

Everything else about the build is in pyproject.toml. The stubs land in `proto/uihlm_proto/v1/`, which git ignores.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROTO = Path(__file__).parent / "proto"


def generate_stubs() -> None:
    """Compile `uihlm/v1/*.proto`; the virtual path makes the stubs import each other as `uihlm_proto.v1`."""
    import grpc_tools
    from grpc_tools import protoc

    target = PROTO / "uihlm_proto" / "v1"
    target.mkdir(parents=True, exist_ok=True)
    (target / "__init__.py").write_text('"""Stubs generated from proto/uihlm/v1 by setup.py."""\n', encoding="utf-8")
    sources = sorted((PROTO / "uihlm" / "v1").glob("*.proto"))
    arguments = [
        "protoc",
        f"-Iuihlm_proto/v1={PROTO / 'uihlm' / 'v1'}",
        f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
        f"--python_out={PROTO}",
        f"--pyi_out={PROTO}",
        f"--grpc_python_out={PROTO}",
        *(f"uihlm_proto/v1/{source.name}" for source in sources),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed: see its message above")


class BuildWithStubs(build_py):
    """The standard `build_py`, with the stubs written first (also for editable installs)."""

    def run(self):
        generate_stubs()
        super().run()


# The stub package must exist before setuptools looks for packages, so it is written at once.
(PROTO / "uihlm_proto" / "v1").mkdir(parents=True, exist_ok=True)
(PROTO / "uihlm_proto" / "v1" / "__init__.py").touch()

setup(cmdclass={"build_py": BuildWithStubs})
