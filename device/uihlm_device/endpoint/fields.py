"""The fields of a JSON object, taken one by one; what is left at the end is a field that nobody knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from uihlm_device.endpoint.refusals import Refusal


class Fields:
    """One object. A field that is null counts as left out."""

    def __init__(
        self,
        values: Mapping[str, Any],
        harmless: frozenset[str],
        refused: Mapping[str, tuple[tuple[Any, ...], str]],
        path: str = "",
    ) -> None:
        """Pass over what is harmless, and refuse what is refused unless it asks for nothing.

        Args:
            values: the object.
            harmless: fields that change nothing.
            refused: by name, the values that ask for nothing, and the reason why others cannot be given.
            path: of the object, in front of its fields' names.

        Raises:
            Refusal: 400.
        """
        self._path = path
        self._left = {name: value for name, value in values.items() if value is not None and name not in harmless}
        for name, (nothing, reason) in refused.items():
            # A number field takes 0 and 0.0, but no false.
            value = self._left.get(name)
            same = [type(idle) is type(value) or not isinstance(value, bool) for idle in nothing if idle == value]
            if name in self._left and any(same):
                del self._left[name]
            elif name in self._left:
                raise Refusal.bad(path + name, f"{path}{name} cannot be given: {reason}")

    def take(self, name: str) -> Any:
        """Return a field, whatever it is; None if it is left out."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise self._bad(name, "is a text that must be given", value)
        return value

    def boolean(self, name: str) -> bool:
        """Return true or false; false if it is left out."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self._bad(name, "is true or false", value)
        return bool(value)

    def whole(self, name: str, least: int, most: int) -> int | None:
        """Return a whole number."""
        value = self.take(name)
        if isinstance(value, float) and value.is_integer():
            # Some languages have no whole numbers.
            value = int(value)
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise self._bad(name, f"is a whole number of {least} … {most}", value)
        return value

    def number(self, name: str, least: float, most: float, above: bool = False) -> float | None:
        """Return a number; with `above` it is more than `least`."""
        value = self.take(name)
        if value is None:
            return None
        # The range first: an integer may be too large to be asked whether it is finite. No NaN is in it.
        fits = type(value) in (int, float) and least <= value <= most and math.isfinite(value)
        if not fits or (above and value == least):
            raise self._bad(
                name, f"is a number {'above' if above else 'of at least'} {least:g}, at most {most:g}", value
            )
        return float(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object; an empty one if it is left out."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise self._bad(name, "is an object", value)
        return value or {}

    def end(self) -> None:
        """Refuse what is left."""
        if self._left:
            name = self._path + min(self._left)
            raise Refusal.bad(name, f"{name} is no field that this endpoint knows: leave it out")

    def _bad(self, name: str, what: str, value: Any) -> Refusal:
        name = self._path + name
        got = f"{value!r}"
        return Refusal.bad(name, f"{name} {what}, got {got if len(got) <= 40 else got[:40] + '…'}")
