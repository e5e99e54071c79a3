"""The code of a function object, changed in place: whoever holds the function, in whatever way, runs the new code."""

from __future__ import annotations

from types import CodeType, FunctionType


class Body:
    """The code of one function object, and what it was before anything here changed it.

    Attributes:
        function: the function.
        original: its code before the first change.
        owners: who has changed it, in words.
    """

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.original = function.__code__
        self.owners: list[str] = []
        self._ours = [self.original]

    @property
    def foreign(self) -> CodeType | None:
        """The code that somebody else has given the function since, or None."""
        code = self.function.__code__
        return None if any(code is known for known in self._ours) else code

    def put(self, code: CodeType) -> bool:
        """Give the function `code`, which takes the same free variables, unless somebody else has changed it since.

        Returns:
            Whether the function runs `code` now.
        """
        if self.foreign is not None:
            return False
        # Known before it is installed: after an interruption in between, it is not taken for somebody else's.
        self._ours.append(code)
        self.function.__code__ = code
        self._ours = [self.original, code]
        return True

    def undo(self) -> bool:
        """Give the function its original code back, unless somebody else has changed it since; return whether."""
        return self.put(self.original)


_bodies: dict[int, Body] = {}


def body(function: FunctionType) -> Body:
    """Return the body of `function`, to be changed."""
    return _bodies.setdefault(id(function), Body(function))


def known(function: FunctionType) -> Body | None:
    """Return the body of `function` if it is changed now."""
    return _bodies.get(id(function))


def release(changed: Body) -> None:
    """Forget a body that nobody changes any more."""
    _bodies.pop(id(changed.function), None)
