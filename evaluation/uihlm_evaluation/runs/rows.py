"""A row of a table: a policy with its knobs, under a label that no other row of the run has."""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_device.rules.policies import Needs, PolicySettings, policy

# Which knob a policy reads, and how a label shows it.
_SYMBOLS = {"k": "k", "gamma": "γ", "theta_u": "θ_u", "theta_c": "θ_c", "rate": "rate"}
_RULE_KNOBS = {
    "u": ("theta_u",),
    "i": ("k",),
    "ui": ("theta_u", "k"),
    "confidence": ("theta_c",),
    "random": ("rate",),
    "u-random": ("theta_u", "rate"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A policy with its knobs.

    Attributes:
        label: what samples and rounds files call it in their field `policy`: the policy's name, followed in a sweep by
            the knobs in which it differs from the run's settings.
        policy: the policy's name.
        rules: its knobs.
        gamma: γ of the importance threshold.
    """

    label: str
    policy: str
    rules: PolicySettings = PolicySettings()
    gamma: float = 1.0

    @classmethod
    def of(cls, policy: str, rules: PolicySettings = PolicySettings(), gamma: float = 1.0) -> Row:
        """Return the row of a policy that stands once in its table: its label is the policy's name."""
        return cls(policy, policy, rules, gamma)

    @property
    def knobs(self) -> dict[str, float]:
        """The knobs this policy reads, by name; one of another package is taken to read none of the built-in rules'."""
        read = _RULE_KNOBS.get(self.policy, ())
        knobs: dict[str, float] = {name: getattr(self.rules, name) for name in read}
        if Needs.IMPORTANCE in policy(self.policy, self.rules).needs:
            knobs["gamma"] = self.gamma
        return knobs


def described(row: Row, shown: frozenset[str]) -> Row:
    """Return the row with a label that tells those of its knobs that are in `shown`."""
    knobs = [f"{_SYMBOLS[name]}={value:g}" for name, value in row.knobs.items() if name in shown]
    return Row(" ".join([row.policy, *knobs]), row.policy, row.rules, row.gamma)
