"""The overlays that plugins contribute."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Any

from ascend_overlay.engine import plan
from ascend_overlay.engine.plugins import Failure, Origin, Plugins
from ascend_overlay.errors import PluginError, represented
from ascend_overlay.ledgers import Entry
from ascend_overlay.overlay import Overlay
from ascend_overlay.settings import Settings

GIVEN = Origin("the program itself", is_program=True)
"""Who contributes an overlay that is handed to enable() as an object."""


class Catalogue:
    """All overlays that this process knows of, each with its contributor."""

    def __init__(self, plugins: Plugins) -> None:
        self._contributed: dict[str, tuple[Overlay, Origin]] = {}
        self._plugins = plugins
        self._asked: set[Origin] = set()

    @property
    def overlays(self) -> dict[str, Overlay]:
        """The overlays by name, in the order of their contribution."""
        return {name: overlay for name, (overlay, _) in self._contributed.items()}

    @property
    def contributed(self) -> dict[str, tuple[Overlay, str]]:
        """The overlays by name, each with who contributed it."""
        return {name: (overlay, str(origin)) for name, (overlay, origin) in self._contributed.items()}

    def distributions(self, overlays: Collection[str] = ()) -> dict[str, str]:
        """Return the distributions that brought `overlays`, by default all, each with its version."""
        origins = [origin for name, (_, origin) in self._contributed.items() if not overlays or name in overlays]
        return {origin.distribution: origin.version for origin in origins if origin.distribution}

    def load(self, settings: Settings) -> None:
        """Load the plugins that `settings` allow, and ask the new ones for overlays.

        What is wrong with a plugin is added to its problems.
        """
        self._plugins.load(settings)
        # pluggy asks the last registered first; overlays count in the order of registration, the built-in ones first.
        answers = list(self._plugins.contributions("ascend_overlay_overlays", leave_out=self._asked))
        for origin, answer in reversed(answers):
            error = answer.error if isinstance(answer, Failure) else _unusable(answer, origin)
            if error is not None:
                self._plugins.problems.append((origin, error))
                continue
            self._asked.add(origin)
            for overlay in answer:
                self._add(overlay, origin)

    def give(self, overlay: Overlay, *, enabled: bool) -> None:
        """Take an overlay that the program itself hands over; one that it handed over before gives way.

        Raises:
            PluginError: it is no overlay, or its name is taken.
        """
        if (error := _unusable([overlay], GIVEN)) is not None:
            raise error
        known = self._contributed.get(overlay.name)
        if known is not None and known[0] is not overlay and (known[1] != GIVEN or enabled):
            whose = "is enabled; disable() it first" if known[1] == GIVEN else f"comes from {known[1]}; rename one"
            raise PluginError(f"the program hands over an overlay {overlay.name!r}, and another of that name {whose}.")
        if known is None or known[0] is not overlay:
            self._contributed[overlay.name] = overlay, GIVEN

    def is_given(self, name: str) -> bool:
        """Tell whether the program itself handed the overlay `name` over."""
        return name in self._contributed and self._contributed[name][1] == GIVEN

    def forget_given(self, enabled: Container[str]) -> None:
        """Forget overlays that the program handed over, except for those that are enabled."""
        for name in self.overlays:
            if self.is_given(name) and name not in enabled:
                del self._contributed[name]

    def forget(self, origin: Origin) -> None:
        """Forget what a plugin contributed, which is not registered any more."""
        self._asked.discard(origin)
        self._contributed = {name: known for name, known in self._contributed.items() if known[1] != origin}

    def plugin_entries(self) -> list[Entry]:
        """Return ledger entries on the plugins that were left out or have a problem."""
        entries = []
        for origin, reason in self._plugins.not_asked:
            entries.append(plan.entry_for("", origin, origin.plugin, "plugin"))
            entries[-1].skip("not asked", reason)
        for origin, error in self._plugins.problems:
            entries.append(plan.entry_for("", origin, origin.plugin, "plugin"))
            entries[-1].become("failed", str(error))
        return entries

    def unit(self, name: str, rank: int) -> plan.Unit:
        """Return a unit of the overlay `name`."""
        return plan.unit_of(*self._contributed[name], rank)

    def _add(self, overlay: Overlay, origin: Origin) -> None:
        known = self._contributed.get(overlay.name)
        if known is not None and known[0] is not overlay:
            text = f"{origin} and {known[1]} both contribute an overlay named {overlay.name!r}; rename one."
            self._plugins.problems.append((origin, PluginError(text)))
            # Asked again by the next enable(), which says the same again.
            self._asked.discard(origin)
            return
        self._contributed[overlay.name] = overlay, origin


def _unusable(contributed: Sequence[Any], origin: Origin) -> PluginError | None:
    for overlay in contributed:
        if not isinstance(overlay, Overlay):
            return PluginError(f"{origin} contributes {represented(overlay)}, which is not an Overlay.")
        if not overlay.patches:
            return PluginError(
                f"{origin} contributes the overlay {overlay.name!r}, which has no patch. overlay.wrap(target) and "
                f"overlay.replace(target) without an implementation are decorators; see that they decorate a function."
            )
    return None
