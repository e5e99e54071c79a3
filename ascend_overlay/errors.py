"""Every error that ascend_overlay raises.

None of them derives from ImportError: an error raised while a target is imported must stop the program, and
``try: import vllm.something except ImportError`` would swallow it.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = [
    "ActivationError",
    "CheckpointError",
    "ConfigError",
    "ConflictError",
    "ForeignError",
    "LockError",
    "OverlayError",
    "PluginError",
    "ProcessError",
    "QuantizeError",
    "ReleaseError",
    "RuledOutError",
    "SignatureError",
    "TargetError",
    "VersionError",
]


class OverlayError(Exception):
    """Base of every error raised by ascend_overlay.

    Attributes:
        is_usage: what was asked for means nothing: a command line with it has no answer.
    """

    is_usage = False

    def __init__(self, message: object = "") -> None:
        # It may quote a file, a plugin or a model that wants a terminal to do something.
        super().__init__(printable(str(message)))


class TargetError(OverlayError):
    """A target does not exist, or exists where it must not, or cannot be changed in the way asked for."""


class SignatureError(OverlayError):
    """A replacement cannot be called the way its original is called."""


class ConflictError(OverlayError):
    """Two overlays want to decide the same target."""


class ForeignError(OverlayError):
    """Somebody else changed what a patch changes, and the setting `foreign` says that this is an error."""


class VersionError(OverlayError):
    """An installed distribution is missing or outside the range that an overlay supports."""


class RuledOutError(OverlayError):
    """An overlay that was asked for by name stays off: a condition does not hold, or a plugin vetoes it."""


class PluginError(OverlayError):
    """A plugin could not be imported or registered, or one of its hooks failed."""


class ProcessError(OverlayError):
    """A process of vLLM lacks overlays that the process which started it has."""


class ConfigError(OverlayError):
    """A setting or argument names something that does not exist or cannot be used."""


class CheckpointError(OverlayError):
    """A quantized checkpoint cannot be loaded, or is not what its description says."""


class QuantizeError(OverlayError):
    """A model cannot be quantized in the way asked for, or not to the place asked for."""


class LockError(OverlayError):
    """A lock cannot be read or written, or what is here is not what it has."""


class ReleaseError(OverlayError):
    """A release of a package cannot be had, or what is named is none."""


class ActivationError(OverlayError):
    """The overlays cannot be switched on or off in the state that this process is in."""


def say_where(error: OverlayError, overlay: str, kind: str = "", target: object = None) -> None:
    """Have `error` name the overlay that it is about, and the patch, as far as it does not do so by itself.

    Args:
        error: what was raised where something was declared or applied.
        overlay: words that name the overlay.
        kind: the kind of patch, as overlay.<kind> declares it.
        target: what it is for.
    """
    text = str(error)
    told_target = not isinstance(target, str) or target in text
    if overlay in text and told_target:
        return
    where = overlay if told_target else f"{overlay}, {kind} of {target}"
    error.args = (printable(f"{where}: {text}"),)


_Error = TypeVar("_Error", bound=OverlayError)


def usage(error: _Error) -> _Error:
    """Return `error`, as one that says that what was asked for means nothing."""
    error.is_usage = True
    return error


def told(error: BaseException) -> str:
    """Return what an error is and says, whatever its class does to say it: "ValueError: no such thing"."""
    try:
        text = str(error)
    except Exception as another:
        text = f"its __str__ raises {type(another).__name__}"
    return f"{type(error).__name__}: {text}"


def represented(thing: object) -> str:
    """Return repr(thing), or where that raises what it is."""
    try:
        return repr(thing)
    except Exception as error:
        return f"<{type(thing).__qualname__}, whose __repr__ raises {type(error).__name__}>"


def printable(text: str) -> str:
    """Return `text` with what controls a terminal, or turns the order of letters, written as Python writes it."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in _CONTROLS else ascii(letter)[1:-1]
        for letter in text
    )


_CONTROLS = {"Cc", "Cf", "Cs"}


def did_you_mean(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """Return " Did you mean ...?" with the nearest of `known`, or an empty string."""
    close = difflib.get_close_matches(name, [other for other in known if other != name], n=limit, cutoff=0.6)
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(match) for match in close)}?"


def some_of(texts: Sequence[str], separator: str = ", ", *, limit: int = 3) -> str:
    """Return the first of `texts` in one line, and how many more there are."""
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return separator.join(texts[:limit]) + more
