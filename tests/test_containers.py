"""The Dockerfile and the compose file: linted, valid, and in step with the commands they run. No engine runs them here."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from compose_spec import PyCompose

from uihlm_cli.basestation import main as basestation
from uihlm_cli.device import main as device

ROOT = Path(__file__).parents[1]
DOCKERFILE, COMPOSE = ROOT / "Dockerfile", ROOT / "compose.yaml"
COMMANDS = {"uihlm-bs": basestation, "uihlm-device": device}


def tool(name: str) -> str:
    """The tool of this environment, whether or not it is on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is one of the development requirements"
    return found


def linted(*command: str, text: str | None = None) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=ROOT).stdout


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of every stage."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8")))
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, rest.strip()))
    return found


def services() -> dict[str, dict[str, object]]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def checked(text: str) -> PyCompose:
    """The file as the compose specification reads it; ValueError says where it does not."""
    # Through JSON, as that has the merges of YAML done already.
    compose = PyCompose.from_json(json.dumps(yaml.safe_load(text)))
    compose.validate()
    return compose


def test_the_dockerfile_is_clean_and_the_linter_would_say_so():
    assert linted(tool("hadolint"), "--failure-threshold", "style", str(DOCKERFILE)) == ""
    bad = DOCKERFILE.read_text(encoding="utf-8").replace(":3.11.14-slim-bookworm", ":latest")
    assert "DL3007" in linted(tool("hadolint"), "-", text=bad)


def test_every_base_is_one_pinned_version_and_the_compiler_stays_out():
    build, final = stages()
    (base,) = {stage[0][1].split()[0] for stage in (build, final)}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    assert "build-essential" in str(build)
    assert not re.search(r"build-essential|gcc|g\+\+|cmake|ninja", str(final))
    assert ("COPY", "--from=build /opt/uihlm /opt/uihlm") in final


def test_the_image_runs_as_nobody_in_particular_and_says_how_it_is():
    _, final = stages()
    last_user = [rest for instruction, rest in final if instruction == "USER"][-1]
    assert int(last_user.split(":")[0]) >= 1000
    after = [instruction for instruction, _ in final[[i for i, _ in final].index("USER") :]]
    assert "RUN" not in after, "what runs after the user is set runs without rights"
    (health,) = [rest for instruction, rest in final if instruction == "HEALTHCHECK"]
    assert health.endswith('CMD ["uihlm-bs", "health"]') and "health" in basestation.list_commands(
        click.Context(basestation)
    )


def test_what_the_image_is_built_from_is_in_the_context_and_in_the_repository():
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    build, _ = stages()
    copied = [source for instruction, rest in build if instruction == "COPY" for source in rest.split()[:-1]]
    packages = {path.parent.name for path in ROOT.glob("*/uihlm_*") if path.is_dir()}
    assert {source.rstrip("/") for source in copied} >= packages
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source.rstrip('/')}" in context


def test_the_compose_file_is_valid_and_the_check_would_say_so():
    text = COMPOSE.read_text(encoding="utf-8")
    assert linted(tool("yamllint"), "--strict", str(COMPOSE)) == ""
    assert sorted(checked(text).service_names()) == ["basestation", "device-a", "device-b"]
    for broken in (
        text.replace("stop_grace_period: 20s", "stop_grace_period: soon"),
        text.replace("networks:\n  cell:", "networks:\n  air:"),
        text.replace("restart: unless-stopped", "restart: perhaps"),
    ):
        assert broken != text
        with pytest.raises(ValueError):
            checked(broken)


@pytest.mark.parametrize("name", ["basestation", "device-a", "device-b"])
def test_every_service_runs_a_command_that_exists_with_flags_it_has(name):
    program, command, *arguments = services()[name]["command"]
    group = COMMANDS[program]
    found = group.get_command(click.Context(group), command)
    context = click.Context(found, info_name=command)
    found.parse_args(context, list(arguments))
    assert context.params


def test_services_run_without_rights_and_devices_wait_for_a_healthy_base_station():
    for name, service in services().items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and "ports" not in service
        assert service["security_opt"] == ["no-new-privileges:true"] and not service.get("privileged")
        if name != "basestation":
            assert service["depends_on"] == {"basestation": {"condition": "service_healthy"}}
            assert service["healthcheck"] == {"disable": True}
    network = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["networks"]["cell"]
    assert network == {"internal": True}, "--insecure is for a network that nobody else is on"
