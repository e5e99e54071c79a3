"""Classes that vLLM imports itself, by name, where it needs them: looked at once they are there, and not sooner."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from ascend_overlay.errors import TargetError
from ascend_overlay.patches.base import REGISTRATIONS, Applied, Patch, Ref, check_class, shown, what_is
from ascend_overlay.places import importing
from ascend_overlay.places.target import Target

MODULE = ("torch.nn", "Module")
BACKEND = ("vllm", "AttentionBackend")
"""What such a class is derived from: the package of the base class, which moves between releases, and its name."""
_NEAR = 0.88
"""From here on, two names of twenty letters differ by one or two."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Served(Patch):
    """Enters a class in a registry of vLLM's, as "module:Class", a string.

    Attributes:
        implementation: the name of the class.
        registry: the target that the entry is made in.
        base: what the class has to be derived from: MODULE or BACKEND.
    """

    implementation: str

    registry: ClassVar[str]
    base: ClassVar[tuple[str, str]]
    phase: ClassVar[int] = REGISTRATIONS

    @property
    def module(self) -> str:
        return Target.parse(self.registry).module

    @property
    def later(self) -> tuple[str, ...]:
        return (Target.parse(self.implementation).module,)

    def examine(self, *, executed: bool = False) -> None:
        if (why := misfit(self.implementation, self.key, self.base, executed=executed)) is not None:
            raise TargetError(f"{why}.")

    def check(self) -> None:
        try:
            check_class(self.implementation)
        except TargetError as error:
            raise TargetError(f"{self.key}: {error}") from None

    def effect(self, applied: Applied) -> str | None:
        """Return why vLLM cannot use the class that it has imported meanwhile, or None."""
        return misfit(self.implementation, self.key, self.base)

    def describe(self) -> str:
        return f"served by {self.implementation}"


def misfit(implementation: str, what: str, base: tuple[str, str], *, executed: bool = False) -> str | None:
    """Return why vLLM cannot use the class, as a phrase; None where it can, and where its module is not there yet.

    Args:
        implementation: the name of the class.
        what: what it serves, in words.
        base: MODULE or BACKEND.
        executed: its module has executed just now.
    """
    module = Target.parse(implementation).module
    if not executed and not importing.is_complete(module):
        return None
    try:
        found = Ref(implementation).load()
    except TargetError as error:
        return f"{what}: {str(error).rstrip('.')}"
    if _is_derived(found, *base):
        return None
    package, name = base
    kind = "a class of another kind" if isinstance(found, type) else f"{what_is(found)}, not a class"
    return (
        f"{what} cannot be served by {shown(found)}, which is {kind}: vLLM needs a subclass of {package}.{name}; "
        "derive it from that, or name another class"
    )


def nearly(name: str, known: Iterable[str], what: str) -> list[str]:
    """Return a note where `name`, which is new to vLLM, is nearly one that it has: it may be misspelt."""
    by_letters = {other.lower(): other for other in known if other != name}
    near = difflib.get_close_matches(name.lower(), by_letters, n=1, cutoff=_NEAR)
    if not near:
        return []
    return [f"{name} is new to vLLM, which has the {what} {by_letters[near[0]]}: see that it is not misspelt"]


def _is_derived(found: Any, package: str, name: str) -> bool:
    bases = found.__mro__ if isinstance(found, type) else ()
    return any(base.__name__ == name and f"{base.__module__}.".startswith(f"{package}.") for base in bases)
