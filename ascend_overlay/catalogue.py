"""The overlays that plugins contribute."""

from __future__ import annotations

from typing import Any

from ascend_overlay import plan
from ascend_overlay.errors import PluginError
from ascend_overlay.hooks.manager import Failure, Origin, Plugins
from ascend_overlay.overlay import Overlay
from ascend_overlay.records import Entry
from ascend_overlay.settings import Settings


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

    def load(self, settings: Settings) -> None:
        """Load the plugins that `settings` allow, and ask the new ones for overlays.

        What is wrong with a plugin is added to its problems.
        """
        self._plugins.load(settings)
        # pluggy asks the last registered first; overlays count in the order of registration, the built-in ones first.
        for origin, answer in reversed(list(self._plugins.each("ascend_overlay_overlays", leave_out=self._asked))):
            try:
                overlays = _overlays_in(answer, origin)
            except PluginError as error:
                self._plugins.problems.append((origin, error))
                continue
            self._asked.add(origin)
            for overlay in overlays:
                self._add(overlay, origin)

    def plugin_entries(self) -> list[Entry]:
        """Return ledger entries on the plugins that were left out or have a problem."""
        left_out = [
            plan.entry_for("", origin, origin.plugin, "plugin", "skipped", reason)
            for origin, reason in self._plugins.not_asked
        ]
        failed = [
            plan.entry_for("", origin, origin.plugin, "plugin", "failed", str(error))
            for origin, error in self._plugins.problems
        ]
        return left_out + failed

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


def _overlays_in(answer: Any, origin: Origin) -> list[Overlay]:
    if isinstance(answer, Failure):
        raise answer.error
    try:
        overlays = list(answer or ())
    except TypeError:
        overlays = [answer]
        if isinstance(answer, Overlay):
            return overlays
    except Exception as error:
        raise PluginError(
            f"{origin} raised in its hook ascend_overlay_overlays: {type(error).__name__}: {error}"
        ) from error
    for overlay in overlays:
        if not isinstance(overlay, Overlay):
            raise PluginError(f"{origin} contributes {overlay!r}, which is not an Overlay.")
    return overlays
