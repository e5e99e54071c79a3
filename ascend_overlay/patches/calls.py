"""The patch that is a call with its undo: a registration with somebody who offers nothing to patch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import OverlayError, SignatureError, TargetError, told
from ascend_overlay.patches import flavours, signatures
from ascend_overlay.patches.base import REGISTRATIONS, Applied, Context, Patch, Ref, loaded, shown
from ascend_overlay.places.target import Place, Target, find, require


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Call(Patch):
    """Call `do` when a module is loaded, and `undo` when the overlay is taken back.

    The target is the module, "package.module", or "package.module:name" for something in it that must exist.
    """

    do: Any
    undo: Any = None
    irreversible: bool = False

    kind: ClassVar[str] = "call"
    changes_target: ClassVar[bool] = False
    once: ClassVar[bool] = True
    decides: ClassVar[bool] = False
    phase: ClassVar[int] = REGISTRATIONS

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    def check(self) -> None:
        super().check()
        for function in (self.do, self.undo):
            if function is not None and not isinstance(function, Ref) and not callable(function):
                raise TargetError(f"the call for {self.target} is {shown(function)}, which cannot be called.")

    def load(self) -> Any:
        # Both: an undo that does not exist must not be found out when it is due.
        return loaded(self.do), loaded(self.undo)

    def resolve(self, module: ModuleType, context: Context) -> Place:
        if ":" not in self.target:
            return Place(module, "", module, own=True, shared=False)
        target = Target.parse(self.target)
        return require(find(module, target, alias=context.stand_ins), target)

    def refuse(self, place: Place, implementation: Any) -> None:
        do, undo = implementation
        self._takes(do, arguments=0)
        if undo is not None:
            self._takes(undo, arguments=1)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        self.refuse(self.resolve(module, context), implementation)
        do, undo = implementation
        takes_result = undo is not None and self._takes(undo, arguments=1)
        applied.seam = "call"
        results: list[Any] = []
        if undo is None:
            applied.notes.append("cannot be taken back: the overlay says that it is irreversible")
        else:
            applied.undo.append(lambda: self._take_back(undo, results, applied, takes_result=takes_result))
        try:
            # The result, and with it the knowledge that there is something to undo, is kept before any Python runs.
            results.extend(itertools.starmap(do, [()]))
        except (OverlayError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise TargetError(f"the call {shown(self.do)} for {self.target} failed: {told(error)}") from error

    def effect(self, applied: Applied) -> str | None:
        """Return None: what a call did is known to whom it called."""
        return None

    def describe(self) -> str:
        if self.undo is None:
            return f"called: {shown(self.do)}, which cannot be taken back"
        return f"called: {shown(self.do)}, taken back by {shown(self.undo)}"

    def _take_back(
        self, undo: Callable[..., object], results: list[Any], applied: Applied, *, takes_result: bool
    ) -> None:
        if not results:
            return
        try:
            undo(*results) if takes_result else undo()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # The rest of the overlay must be taken back all the same.
            applied.lost.append(
                f"the undo {shown(self.undo)} of the call {shown(self.do)} failed, and what was done may still be in "
                f"force: {told(error)}"
            )
        results.clear()

    def _takes(self, function: Any, *, arguments: int) -> bool:
        """Tell whether `function` takes so many arguments, rather than none.

        Raises:
            TargetError: it cannot be called, or only asynchronously.
            SignatureError: it takes neither.
        """
        if not callable(function):
            raise TargetError(f"the call for {self.target} is {shown(function)}, which cannot be called.")
        if (flavour := flavours.of(function)) != flavours.PLAIN:
            raise TargetError(f"the call {shown(function)} for {self.target} would do nothing: its kind is {flavour}.")
        signature = signatures.of(function)
        if signature is None:
            return False
        for count in dict.fromkeys((arguments, 0)):
            try:
                signature.bind(*[None] * count)
            except TypeError:
                continue
            return count > 0
        which, expected = ("undo", "what do returned, or nothing") if arguments else ("do", "no argument")
        raise SignatureError(
            f"the call for {self.target} has {which}={shown(function)} with the signature {signature}, and {which} is "
            f"given {expected}."
        )
