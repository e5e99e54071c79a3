"""The code of a function object, changed in place: whoever holds the function, in whatever way, runs the new code.

Two things can be done to one function at once. Its content can be another, edited one. And its calls can be sent on to
something else; then a twin of the function has the content, for those who still want it.
"""

from __future__ import annotations

from types import CodeType, FunctionType


class Body:
    """The code of one function object, and what it was before anything here changed it.

    Attributes:
        function: the function.
        original: its code before the first change.
        twin: the function that has the content while the calls of `function` are sent on.
        owners: who has changed the content, in words.
    """

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.original = function.__code__
        self.twin: FunctionType | None = None
        self.owners: list[str] = []
        self._content = self.original
        self._ours = [self.original]

    @property
    def foreign(self) -> CodeType | None:
        """The code that somebody else has given the function since, or None."""
        code = self.function.__code__
        return None if any(code is known for known in self._ours) else code

    def put(self, code: CodeType) -> bool:
        """Give the function `code` for its content, with the same free variables, unless somebody else has changed it.

        Returns:
            Whether the function has that content now.
        """
        if self.foreign is not None:
            return False
        # Known before it is installed: after an interruption in between, it is not taken for somebody else's.
        self._ours.append(code)
        (self.twin or self.function).__code__ = code
        self._content = code
        self._forget_others()
        return True

    def undo(self) -> bool:
        """Give the function its original content back, unless somebody else has changed it since; return whether."""
        return self.put(self.original)

    def send_on(self, code: CodeType, twin: FunctionType) -> None:
        """Have the function run `code`, which hands its calls on, and `twin` what it ran; done twice, it does no harm.

        A function that somebody else has changed keeps that code.
        """
        if self.foreign is not None:
            return
        self._ours.append(code)
        if self.twin is None:
            self.twin = twin
        self.function.__code__ = code
        self._forget_others()

    def call_back(self) -> None:
        """Have the function run its content itself again, unless somebody else has changed it since."""
        if self.twin is None:
            return
        if self.foreign is None:
            self.function.__code__ = self._content
        self.twin = None
        self._forget_others()

    def _forget_others(self) -> None:
        self._ours = [self.original, self._content, self.function.__code__]


_bodies: dict[int, Body] = {}


def body(function: FunctionType) -> Body:
    """Return the body of `function`, to be changed."""
    return _bodies.setdefault(id(function), Body(function))


def known(function: FunctionType) -> Body | None:
    """Return the body of `function` if it is changed now."""
    return _bodies.get(id(function))


def behind(function: FunctionType) -> FunctionType:
    """Return the function whose content `function` has while its calls are sent on; mostly that is itself."""
    return next((body.function for body in list(_bodies.values()) if body.twin is function), function)


def release(changed: Body) -> None:
    """Forget a body that nobody changes any more."""
    if changed.twin is None and not changed.owners:
        _bodies.pop(id(changed.function), None)
