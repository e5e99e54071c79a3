"""Errors of overlays and plugins: raised, or warned of where the settings are not strict."""

from __future__ import annotations

import warnings
from typing import Any

from ascend_overlay.engine.plugins import Failure, Plugins
from ascend_overlay.errors import OverlayError, PluginError
from ascend_overlay.settings import Settings


def complain(error: OverlayError, settings: Settings) -> None:
    """Raise `error`, or warn of it."""
    if settings.strict:
        raise error
    warn(error)


def warn(error: OverlayError) -> None:
    """Warn of `error`."""
    warnings.warn(str(error), RuntimeWarning, stacklevel=5)


def ask(plugins: Plugins, hook: str, settings: Settings, **arguments: Any) -> Any:
    """Return the first answer of the plugins that is not None; complain of one that raises."""
    try:
        return plugins.first(hook, **arguments)
    except PluginError as error:
        complain(error, settings)
        return None


def tell(plugins: Plugins, hook: str, settings: Settings, **arguments: Any) -> None:
    """Call the hook in every plugin; complain of each that raises."""
    for _, answer in plugins.each(hook, **arguments):
        if isinstance(answer, Failure):
            complain(answer.error, settings)
