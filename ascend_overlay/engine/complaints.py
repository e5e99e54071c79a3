"""Errors of overlays and plugins: raised, or warned of where the settings are not strict."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

from ascend_overlay import settings as settings_module
from ascend_overlay.engine.plugins import Answer, Failure, Plugins
from ascend_overlay.errors import OverlayError, PluginError
from ascend_overlay.settings import Settings


class Complaints:
    """Knows whether an error stops the program; whoever may complain holds this one object.

    What counts are the settings in force, or in a thread that is in enable() those of that call.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._calls = threading.local()

    def use(self, settings: Settings | None) -> None:
        """Go by `settings` in this thread, or by those in force again."""
        self._calls.settings = settings

    @property
    def settings(self) -> Settings:
        """The settings that count here."""
        return getattr(self._calls, "settings", None) or settings_module.current()

    def complain(self, error: OverlayError, about: str = "") -> None:
        """Raise `error`, or warn of it; one about an overlay that is required is raised in any case."""
        if self.settings.strict or self.requires(about):
            raise error
        self.warn(error)

    def requires(self, overlay: str) -> bool:
        """Tell whether the settings require the overlay to be in force."""
        return overlay in self.settings.require

    def warn(self, error: Exception) -> None:
        """Warn of `error`."""
        warnings.warn(str(error), RuntimeWarning, stacklevel=5)

    def asked(self, hook: str, **arguments: Any) -> Answer | None:
        """Return the first answer of the plugins that is not None; complain of one that raises."""
        try:
            return self._plugins.first(hook, **arguments)
        except PluginError as error:
            self.complain(error)
            return None

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call the hook in every plugin; complain of each that raises."""
        for error in self.told(hook, **arguments):
            self.complain(error)

    def told(self, hook: str, **arguments: Any) -> Iterator[PluginError]:
        """Call the hook in every plugin; yield what is raised."""
        for _, answer in self._plugins.each(hook, **arguments):
            if isinstance(answer, Failure):
                yield answer.error
