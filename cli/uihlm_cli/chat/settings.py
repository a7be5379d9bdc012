"""The settings of a chat, which /set lists and changes between answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import click

from uihlm_cli.chat.slash_commands import CommandError
from uihlm_cli.options.flags import Values
from uihlm_cli.options.settings import run_config
from uihlm_device.rules.policies import policy
from uihlm_evaluation.runs.configuration import RunConfig, Selection
from uihlm_proto.errors import InvalidRequestError, UihlmError

# The policy of a chat that chooses one for each answer (pilot.py).
AUTO = "auto"

# In the order that /set lists them. Everything else needs other models, another codec or another link.
SETTABLE = (
    "policy",
    "theta_u",
    "k",
    "gamma",
    "theta_c",
    "rate",
    "objective",
    "estimator",
    "temperature",
    "top_k",
    "top_p",
    "max_tokens",
    "seed",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as /set lists it."""

    name: str
    value: str
    meaning: str


class Settings:
    """The flags of the command line, some of which can change between answers.

    Attributes:
        config: what they say now.
    """

    def __init__(self, context: click.Context) -> None:
        """Start from a command's flags.

        Raises:
            UihlmError: if a value is out of its range.
        """
        self._context = context
        self._values: Values = dict(context.params)
        self._options = {p.name: p for p in context.command.params if isinstance(p, click.Option) and p.name}
        self.config = _config(self._values)

    @property
    def policy(self) -> str:
        """Name of the policy, or AUTO."""
        return str(self._values["policy"])

    def flag(self, name: str) -> Any:
        """Return what a flag says now."""
        return self._values[name]

    @property
    def seed(self) -> int:
        """Seed of every token."""
        return self.config.selection.seed

    def list(self) -> list[Setting]:
        """Return what /set can change, with its value."""
        return [Setting(name, f"{self._values[name]}", self._options[name].help or "") for name in SETTABLE]

    def values(self) -> Values:
        """Return them all, for `restore`."""
        return self._values

    def restore(self, values: Values) -> None:
        """Take back what was changed since `values`."""
        self._values, self.config = values, _config(values)

    def change(self, text: str) -> Setting:
        """Apply `NAME VALUE` and return the setting as it is now; CommandError, and no change, if it cannot be."""
        name, _, value = text.replace("=", " ", 1).partition(" ")
        name, value = name.strip().lstrip("-").replace("-", "_"), value.strip()
        option = self._options.get(name)
        if option is None:
            raise CommandError(f"there is no setting {name}: known are {', '.join(SETTABLE)}")
        flag = option.opts[-1]
        if name not in SETTABLE:
            raise CommandError(f"{name} cannot change while the chat runs: start it again with {flag}")
        if not value:
            raise CommandError(f"/set {name} needs a value; it is {self._values[name]} now")
        try:
            new = option.type.convert(value, option, self._context)
            if isinstance(new, float) and not math.isfinite(new):
                raise CommandError(f"{name} must be a finite number, got {value}")
            values = {**self._values, name: new}
            self.config = _config(values)
        except click.BadParameter as error:
            raise CommandError(f"{name}: {error.message}") from error
        except UihlmError as error:
            raise CommandError(str(error)) from error
        self._values = values
        return Setting(name, f"{new}", option.help or "")


def _config(values: Values) -> RunConfig:
    if not -(2**63) <= values["seed"] < 2**63:
        raise InvalidRequestError(f"seed must fit 64 bits with sign, got {values['seed']}")
    chosen = {"draft_length": 1, "draft_p_min": 0.0, "in_flight": 1, "tree": 0, "run_on": None}
    if values["policy"] == AUTO and any(values[name] != waits for name, waits in chosen.items()):
        raise click.BadParameter(
            "auto chooses them for each answer: leave out --draft-length, --draft-p-min, --in-flight, --tree and --run-on",
            param_hint="--policy",
        )
    # What AUTO chooses among is planned for as `hlm`.
    policies = ("hlm",) if values["policy"] == AUTO else (values["policy"],)
    config = run_config(values, policies, Selection(seed=values["seed"]))
    # Of another package's policy only its factory knows which settings it takes.
    policy(config.policies[0], config.rules)
    return config
