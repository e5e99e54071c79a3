"""Finding and registering plugins, and calling their hooks with the blame in the right place."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pluggy

from ascend_overlay.errors import PluginError, did_you_mean
from ascend_overlay.hooks import ENTRY_POINT_GROUP, PROJECT, spec
from ascend_overlay.settings import Settings

BUILT_IN = "ascend_overlay.overlays"
"""The built-in overlays: a plugin like any other, named here so that no installation step is needed to find it."""


@dataclass(frozen=True)
class Origin:
    """Who brought something: the plugin, and the distribution that it was installed with."""

    plugin: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        where = f" of {self.distribution} {self.version}".rstrip() if self.distribution else ""
        return f"plugin {self.plugin!r}{where}"


class Plugins:
    """The plugins of this process.

    Attributes:
        problems: what could not be loaded, as (origin, error).
        not_asked: plugins that the configuration leaves out, as (origin, reason).
    """

    def __init__(self) -> None:
        self.problems: list[tuple[Origin, PluginError]] = []
        self.not_asked: list[tuple[Origin, str]] = []
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(spec)
        self._origins: dict[str, Origin] = {}
        self._seen: set[str] = set()
        self._lock = threading.RLock()

    def load(self, settings: Settings) -> None:
        """Register the built-in plugin, the entry points that `settings` allow, and the modules that it names.

        What was registered before stays. Problems are collected, not raised.
        """
        ours = Origin("ascend_overlay", "ascend_overlay", _own_version())
        self._load_module(BUILT_IN, ours)
        entry_points = list(metadata.entry_points(group=ENTRY_POINT_GROUP))
        for entry_point in entry_points:
            self._load_entry_point(entry_point, settings)
        for module in settings.load:
            # Finding its distribution reads the files of all that are installed.
            if module not in self._seen:
                self._load_module(module, _origin_of_module(module))
        self._check_names(settings, entry_points)

    def register(self, plugin: object, name: str | None = None) -> Origin:
        """Register a plugin object of this process; child processes do not get it.

        Raises:
            PluginError: a hook of it has a wrong name or wrong arguments, or the name is taken.
        """
        origin = Origin(name or getattr(plugin, "__name__", None) or type(plugin).__name__)
        self._register(plugin, origin)
        return origin

    def unregister(self, plugin: object) -> None:
        """Take a plugin out again."""
        with self._lock:
            name = self._manager.get_name(plugin)
            self._manager.unregister(plugin)
            if name is not None:
                self._origins.pop(name, None)
                self._seen.discard(name)

    def each(self, hook: str, **arguments: Any) -> Iterator[tuple[Origin, Any]]:
        """Call `hook` in every plugin; yield who answered and what.

        Raises:
            PluginError: an implementation raised; the iteration can go on with the next plugin only by calling again.
        """
        caller = getattr(self._manager.hook, hook)
        for implementation in reversed(caller.get_hookimpls()):
            origin = self._origins.get(implementation.plugin_name, Origin(implementation.plugin_name))
            passed = {name: arguments[name] for name in implementation.argnames}
            try:
                yield origin, implementation.function(**passed)
            except GeneratorExit:
                raise
            except Exception as error:
                yield origin, Failure(_blame(origin, hook, error))

    def first(self, hook: str, **arguments: Any) -> Any:
        """Return the first answer that is not None.

        Raises:
            PluginError: an implementation raised.
        """
        for _, answer in self.each(hook, **arguments):
            if isinstance(answer, Failure):
                raise answer.error
            if answer is not None:
                return answer
        return None

    def _load_entry_point(self, entry_point: metadata.EntryPoint, settings: Settings) -> None:
        distribution = entry_point.dist
        name, version = (distribution.name, distribution.version) if distribution else ("", "")
        origin = Origin(entry_point.name, name, version)
        if origin.plugin in self._seen:
            return
        if {origin.plugin, name} & set(settings.blocked):
            self._leave_out(origin, "blocked by ASCEND_OVERLAY_PLUGINS")
            return
        if settings.plugins is not None and not {origin.plugin, name} & set(settings.plugins):
            self._leave_out(origin, "not on the allow-list ASCEND_OVERLAY_PLUGINS")
            return
        self._try(origin, entry_point.load)

    def _leave_out(self, origin: Origin, reason: str) -> None:
        if (origin, reason) not in self.not_asked:
            self.not_asked.append((origin, reason))

    def _load_module(self, module: str, origin: Origin) -> None:
        if origin.plugin not in self._seen:
            self._try(origin, lambda: importlib.import_module(module))

    def _try(self, origin: Origin, load: Any) -> None:
        # Loading imports, and an import may start this very thing in another thread: no lock is held.
        try:
            plugin = load()
            self._register(plugin, origin)
        except PluginError as error:
            self.problems.append((origin, error))
        except Exception as error:
            problem = PluginError(
                f"{origin} cannot be loaded: {type(error).__name__}: {error}. Repair or uninstall it, or leave it out "
                f"with ASCEND_OVERLAY_PLUGINS=-{origin.plugin}."
            )
            problem.__cause__ = error
            self.problems.append((origin, problem))
        self._seen.add(origin.plugin)

    def _register(self, plugin: object, origin: Origin) -> None:
        with self._lock:
            if self._manager.is_registered(plugin) or origin.plugin in self._origins:
                return
            self._refuse_unknown_hooks(plugin, origin)
            try:
                self._manager.register(plugin, origin.plugin)
            except (pluggy.PluginValidationError, ValueError) as error:
                self._manager.unregister(name=origin.plugin)
                raise PluginError(f"{origin} does not fit the hooks of ascend_overlay: {error}") from error
            self._origins[origin.plugin] = origin

    def _refuse_unknown_hooks(self, plugin: object, origin: Origin) -> None:
        known = [name for name in vars(spec) if name.startswith(f"{PROJECT}_")]
        for name in dir(plugin):
            if self._manager.parse_hookimpl_opts(plugin, name) is not None and name not in known:
                raise PluginError(f"{origin} implements {name!r}, which is no hook.{did_you_mean(name, known)}")

    def _check_names(self, settings: Settings, entry_points: list[metadata.EntryPoint]) -> None:
        known = {ep.name for ep in entry_points} | {ep.dist.name for ep in entry_points if ep.dist}
        for name in (*(settings.plugins or ()), *settings.blocked):
            if name not in known:
                origin = Origin(name)
                hint = did_you_mean(name, known)
                text = (
                    f"ASCEND_OVERLAY_PLUGINS names {name!r}, but no installed plugin or distribution is called "
                    f"that.{hint}"
                )
                if all(str(problem) != text for _, problem in self.problems):
                    self.problems.append((origin, PluginError(text)))


@dataclass(frozen=True)
class Failure:
    """The answer of a hook implementation that raised."""

    error: PluginError


def _blame(origin: Origin, hook: str, error: Exception) -> PluginError:
    blamed = PluginError(f"{origin} raised in its hook {hook}: {type(error).__name__}: {error}")
    blamed.__cause__ = error
    return blamed


def _own_version() -> str:
    try:
        return metadata.version("ascend_overlay")
    except metadata.PackageNotFoundError:
        return ""


def _origin_of_module(module: str) -> Origin:
    top = module.partition(".")[0]
    for name in metadata.packages_distributions().get(top, ()):
        return Origin(module, name, metadata.version(name))
    return Origin(module)
