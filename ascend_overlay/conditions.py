"""Conditions (`when=`): where an overlay or a patch applies.

A condition is evaluated in the process and at the moment where it matters, not where it is declared. Conditions
combine with ``&``, ``|`` and ``~``; what a condition rules out is in the ledger as skipped, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ascend_overlay import process, versions
from ascend_overlay.errors import ConfigError, did_you_mean, represented

__all__ = ["Condition", "distribution", "env", "platform", "platform_plugin", "predicate", "role"]


@dataclass(frozen=True, eq=False)
class Condition:
    """Something that holds or not, and can say so.

    Attributes:
        text: what must hold, as it is shown in the ledger: "the process role is engine_core".
        holds: evaluates it here and now.
        by_role: the outcome can change while the process runs (a role is entered), so it is evaluated again then.
        late: it can only be evaluated once the target is imported.
        wrong: why it can never be evaluated, a sentence: whoever is given it refuses it, and says for what.
    """

    text: str
    holds: Callable[[], bool]
    by_role: bool = False
    late: bool = False
    wrong: str = ""

    def why_not(self) -> str | None:
        """Return None where the condition holds, else the reason as a phrase."""
        return None if self.holds() else f"not so that {self.text}"

    def __and__(self, other: Condition) -> Condition:
        other = _condition(other)
        return self._with(other, f"{self.text} and {other.text}", lambda: self.holds() and other.holds())

    def __or__(self, other: Condition) -> Condition:
        other = _condition(other)
        return self._with(other, f"({self.text} or {other.text})", lambda: self.holds() or other.holds())

    def __invert__(self) -> Condition:
        return Condition(f"not ({self.text})", lambda: not self.holds(), self.by_role, self.late, self.wrong)

    def _with(self, other: Condition, text: str, holds: Callable[[], bool]) -> Condition:
        return Condition(text, holds, self.by_role or other.by_role, self.late or other.late, self.wrong or other.wrong)


def _mistaken(text: str, wrong: str) -> Condition:
    """Return a condition that cannot be evaluated: where it is made, nobody knows yet for what overlay it is."""

    def holds() -> bool:
        raise ConfigError(wrong)

    return Condition(text, holds, wrong=wrong)


def _condition(given: object) -> Condition:
    if isinstance(given, Condition):
        return given
    return _mistaken(represented(given), f"{represented(given)}, which is joined to another one, is no condition.")


def role(*names: str) -> Condition:
    """Hold in processes that play one of the roles `names` (see ascend_overlay.process.ROLES).

    A name that is no role is an error of the overlay or patch that is given the condition.
    """
    if not names:
        return _mistaken("the process role is none", f"role() names no role; the roles are {', '.join(process.ROLES)}.")
    for name in names:
        if name not in process.ROLES:
            known = ", ".join(process.ROLES)
            hint = did_you_mean(name, process.ROLES) if isinstance(name, str) else ""
            wrong = f"{represented(name)} is not the role of a process; the roles are {known}.{hint}"
            return _mistaken(f"the process role is {represented(name)}", wrong)
    wanted = frozenset(names)
    return Condition(f"the process role is {' or '.join(names)}", lambda: bool(wanted & process.roles()), by_role=True)


def env(name: str, value: str | None = None) -> Condition:
    """Hold where the environment variable `name` equals `value`, or, with None, is set and neither empty nor 0."""
    for given in (name,) if value is None else (name, value):
        if not isinstance(given, str):
            return _mistaken(f"${given} is set", f"env() takes texts, and got {represented(given)}.")
    if value is None:
        return Condition(f"${name} is set", lambda: os.environ.get(name, "").lower() not in ("", "0", "false"))
    return Condition(f"${name} is {value!r}", lambda: os.environ.get(name) == value)


def distribution(name: str, spec: str = "") -> Condition:
    """Hold where the distribution `name` is installed in a version that the PEP 440 specifier `spec` admits."""
    try:
        wanted = versions.specifier(spec, whose=f"the condition distribution({name!r})")
    except ConfigError as error:
        return _mistaken(f"the distribution {name}{spec} is installed", str(error))

    def holds() -> bool:
        found = versions.distribution_version(name)
        if found is not None and name == "vllm":
            found = versions.release(name)
        return found is not None and versions.admits(wanted, found)

    return Condition(f"the distribution {name}{spec} is installed", holds)


def platform_plugin(name: str) -> Condition:
    """Hold where the distribution `name` brings a platform that vLLM loads.

    That is an entry point of the group ``vllm.platform_plugins``, unless VLLM_PLUGINS, the list of what vLLM may load,
    leaves it out. A distribution that is merely installed decides nothing.
    """

    def holds() -> bool:
        allowed = os.environ.get("VLLM_PLUGINS")
        found = versions.entry_points(name, "vllm.platform_plugins")
        return any(allowed is None or plugin in allowed.split(",") for plugin in found)

    return Condition(f"vLLM loads the platform of {name}", holds)


def platform(name: str) -> Condition:
    """Hold where vLLM's current_platform is `name` ("cpu", "cuda", "npu", ...).

    vLLM chooses its platform on first use; asking earlier makes it choose. So this is evaluated when the target has
    been imported; use it on targets that are only loaded once vLLM runs.
    """

    def holds() -> bool:
        from vllm.platforms import current_platform  # type: ignore[import-not-found, unused-ignore]

        return name in (current_platform.device_name, current_platform.device_type)

    return Condition(f"vLLM's platform is {name}", holds, late=True)


def predicate(function: Callable[[], bool], text: str) -> Condition:
    """Hold where `function()` is true; `text` says what that means: "the card is an Atlas A2"."""
    if not callable(function):
        return _mistaken(str(text), f"predicate() takes a function first, and got {represented(function)}.")
    return Condition(text, function)
