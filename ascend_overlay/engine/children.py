"""What the processes that are started from here are to have, and whether they do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ascend_overlay import process, settings
from ascend_overlay.engine import proof
from ascend_overlay.engine.catalogue import Catalogue
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.journal import Journal
from ascend_overlay.engine.plugins import Plugins
from ascend_overlay.engine.propagation import Propagation
from ascend_overlay.engine.state import State
from ascend_overlay.errors import ProcessError
from ascend_overlay.settings import Settings


class Children:
    """Tells the processes that are started from here which overlays they are to have, and holds them to it."""

    def __init__(
        self,
        state: State,
        propagation: Propagation,
        catalogue: Catalogue,
        plugins: Plugins,
        complaints: Complaints,
        journal: Journal,
    ) -> None:
        self._state = state
        self._propagation = propagation
        self._catalogue = catalogue
        self._plugins = plugins
        self._complaints = complaints
        self._journal = journal
        self._are_to_have_any = False

    def tell(self, settings: Settings) -> None:
        """Tell them by the environment of all that they can have of what is enabled here."""
        self._are_to_have_any = True
        here = [name for name in dict.fromkeys([*settings.only, *settings.require]) if self._catalogue.is_given(name)]
        for name in here:
            self._journal.note(
                name,
                "it was handed to enable() as an object, so processes started from here do not have it; "
                "let a plugin contribute it, and name that plugin's module in load=",
            )
        only = tuple(name for name in settings.only if name not in here)
        require = tuple(name for name in settings.require if name not in here)
        if only or require or not settings.only:
            only = only or (require if settings.only else ())
            theirs = dataclasses.replace(settings, only=only, require=require)
            self._propagation.start({**theirs.variables(self._propagation.original()), process.RUN: process.run()})

    def tell_nothing(self) -> None:
        """Take back what they are told: nothing is enabled here any more."""
        self._propagation.stop()
        self._are_to_have_any = False

    def shown(self) -> dict[str, Any]:
        """Return what this process has, for the one that started it."""
        with self._state.lock.held():
            return proof.shown(self._state.units.values(), self._state.past)

    def owed(self) -> dict[str, Any] | None:
        """Return what a process that is started from here is to have: what is shown, and the variables that say so.

        "was_off" says whether the overlays were switched off here before the program enabled them, in spite of it.

        None where nothing is enabled, or its children are to have nothing.
        """
        if (variables := self.told()) is None:
            return None
        owed, here = self.shown(), self.left_out()
        owed["overlays"] = {name: whose for name, whose in owed["overlays"].items() if name not in here}
        return {**owed, "variables": variables, "was_off": settings.declined(self._propagation.original())}

    def told(self) -> dict[str, str] | None:
        """Return the variables that tell a process what it is to have; None where that is nothing."""
        if not self._propagation.active or settings.declined():
            return None
        return self._propagation.variables()

    def left_out(self) -> list[str]:
        """Return the overlays that only this process can have: it made them, or registered their plugin by hand.

        Empty where its children are to have nothing, too.
        """
        if not self._are_to_have_any or settings.declined():
            return []
        with self._state.lock.held():
            units = list(self._state.units.values())
        return [unit.name for unit in units if unit.origin.is_program or self._plugins.is_by_hand(unit.origin)]

    def prove(self, owed: Mapping[str, Any]) -> None:
        """See that this process lacks nothing of what the one that started it has.

        Raises:
            ProcessError: it does.
        """
        self.see(owed, self.shown(), proof.surroundings())

    def see(self, owed: Mapping[str, Any], has: Mapping[str, Any], around: Mapping[str, str]) -> None:
        """Complain of a process that lacks something of what it is owed.

        Raises:
            ProcessError: it does.
        """
        if lacks := proof.lacking(owed, has):
            self._complain(lacks, proof.sentence(owed, has, around, lacks))

    def see_peer(
        self, owed: Mapping[str, Any], has: Mapping[str, Any], around: Mapping[str, str], *, whose: str, here: str
    ) -> None:
        """Complain of a process that lacks something of what is `owed`, and that this one did not start.

        Raises:
            ProcessError: it does.
        """
        if lacks := proof.lacking(owed, has):
            self._complain(lacks, proof.of_peers(has, around, lacks, whose=whose, here=here))

    def _complain(self, lacks: Mapping[str, str], text: str) -> None:
        required = next(filter(self._complaints.requires, lacks), "")
        self._complaints.complain(ProcessError(text), required)
