"""Finding and registering plugins, and calling their hooks with the blame in the right place."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import re
import threading
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pluggy

from ascend_overlay import hooks, versions
from ascend_overlay.errors import PluginError, did_you_mean, printable, told, usage
from ascend_overlay.hooks import ENTRY_POINT_GROUP, PROJECT, spec
from ascend_overlay.places.target import spoken
from ascend_overlay.settings import Settings
from ascend_overlay.source.sources import LOADABLE

BUILT_IN = "ascend_overlay.overlays"
"""The built-in overlays: a plugin like any other, named here so that no installation step is needed to find it."""


@dataclass(frozen=True)
class Origin:
    """Who brought something: the plugin, and the distribution that it was installed with."""

    plugin: str
    distribution: str = ""
    version: str = ""
    is_program: bool = False

    def __post_init__(self) -> None:
        # They come from files that anybody may have written, and go to terminals.
        for name in ("plugin", "distribution", "version"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        if self.is_program:
            return self.plugin
        where = f" of {self.distribution} {self.version}".rstrip() if self.distribution else ""
        return f"plugin {self.plugin!r}{where}"


class Absent(NamedTuple):
    """A plugin that is installed and contributes nothing: what it would contribute is not known.

    Attributes:
        origin: who it is.
        reason: why, as a phrase.
        module: what its entry point names.
    """

    origin: Origin
    reason: str
    module: str

    def declares(self, overlay: str) -> bool:
        """Tell whether the source of its module declares an overlay of that name; nothing of it is imported."""
        source = LOADABLE.module(self.module) if self.module else None
        return source is not None and any(_declares(node, overlay) for node in source.nodes)


class Plugins:
    """The plugins of this process.

    Attributes:
        problems: what the last load() found wrong, as (origin, error).
        not_asked: plugins that the configuration leaves out, as (origin, reason).
    """

    def __init__(self) -> None:
        self.problems: list[tuple[Origin, PluginError]] = []
        self.not_asked: list[tuple[Origin, str]] = []
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(spec)
        self._origins: dict[str, Origin] = {}
        self._by_hand: set[str] = set()
        self._modules: dict[Origin, str] = {}
        self._lock = threading.RLock()

    def load(self, settings: Settings) -> None:
        """Register the built-in plugin, the entry points that `settings` allow, and the modules that it names.

        What was registered before stays; what could not be is tried again. Problems are collected, not raised.
        """
        self.problems, self.not_asked = [], []
        if "ascend_overlay" not in self._origins:
            ours = Origin("ascend_overlay", "ascend_overlay", _own_version())
            self._try(ours, lambda: importlib.import_module(BUILT_IN), f"Reinstall {ours.distribution}")
        # In an order of our own, so that it is the same on every machine.
        entry_points, unreadable = _installed()
        for name in unreadable:
            why = "its entry_points.txt cannot be read, so no plugin of it is found; reinstall it, if it has one"
            self.not_asked.append((Origin(name, name), why))
        for entry_point in entry_points:
            self._load_entry_point(entry_point, settings)
        by = settings.whose("load")
        for module in settings.load:
            # Finding its distribution reads the files of all that are installed.
            if module not in self._origins:
                advice = f"Repair it, or leave it out of {by}"
                origin = _origin_of_module(module)
                self._modules[origin] = module
                self._try(origin, functools.partial(_import, module, by), advice, module)
        self._check_names(settings, entry_points)

    def register(self, plugin: object, name: str | None = None) -> Origin:
        """Register a plugin object of this process; child processes do not get it.

        Raises:
            PluginError: a hook of it has a wrong name or wrong arguments, or the name is taken.
        """
        origin = Origin(name or getattr(plugin, "__name__", None) or type(plugin).__name__)
        if self._manager.get_plugin(origin.plugin) not in (None, plugin):
            raise PluginError(
                f"another plugin is registered as {origin.plugin!r} already; give this one a name of its own: "
                f"register(plugin, name=...)."
            )
        self._register(plugin, origin, origin.plugin)
        if origin.plugin in self._origins:
            self._by_hand.add(origin.plugin)
        return origin

    def by_hand(self, plugin: object) -> Origin:
        """Return who a plugin is that register() was given: the object, or its name.

        Raises:
            PluginError: there is none.
        """
        for name in self._by_hand:
            if plugin is self._manager.get_plugin(name) or plugin == name:
                return self._origins[name]
        what = repr(plugin) if isinstance(plugin, str) else spoken(plugin)
        known = f"; there are: {', '.join(sorted(self._by_hand))}" if self._by_hand else ""
        hint = did_you_mean(plugin, self._by_hand) if isinstance(plugin, str) else ""
        raise PluginError(
            f"no plugin {what} was registered by hand{known}.{hint} A plugin of an entry point or of load= is left out "
            f"by enable(plugins=...) or ASCEND_OVERLAY_PLUGINS."
        )

    def origins(self) -> list[Origin]:
        """Return who the plugins are that are registered."""
        return list(dict.fromkeys(self._origins.values()))

    def absent(self) -> list[Absent]:
        """Return the plugins that the last load() left out, or that failed in it."""
        failed = [(origin, "broken, as the warning about it says") for origin, _ in self.problems]
        known = [*self.not_asked, *((origin, why) for origin, why in failed if origin in self._modules)]
        return [Absent(origin, reason, self._modules.get(origin, "")) for origin, reason in known]

    def of_entry_points(self, origins: Iterable[Origin]) -> list[str]:
        """Return the names of those plugins that were found by an entry point, as an allow-list names them."""
        found = {origin for key, origin in self._origins.items() if key == f"{origin.distribution}:{origin.plugin}"}
        return [origin.plugin for origin in dict.fromkeys(origins) if origin in found]

    def is_by_hand(self, origin: Origin) -> bool:
        """Tell whether register() was given that plugin."""
        return origin.plugin in self._by_hand and self._origins.get(origin.plugin) == origin

    def forget(self, origin: Origin) -> None:
        """Forget a plugin that was registered by hand."""
        with self._lock:
            self._manager.unregister(name=origin.plugin)
            self._by_hand.discard(origin.plugin)
            self._origins.pop(origin.plugin, None)

    def each(self, hook: str, *, leave_out: Container[Origin] = (), **arguments: Any) -> Iterator[tuple[Origin, Any]]:
        """Call `hook` in every plugin but those in `leave_out`, the last registered first; yield who answered and what.

        The answer of an implementation that raised is a `Failure`.
        """
        caller = getattr(self._manager.hook, hook)
        for implementation in reversed(caller.get_hookimpls()):
            origin = self._origins.get(implementation.plugin_name, Origin(implementation.plugin_name))
            if origin in leave_out:
                continue
            passed = {name: arguments[name] for name in implementation.argnames}
            try:
                answer = implementation.function(**passed)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                answer = Failure(_blame(origin, hook, error))
            yield origin, answer

    def contributions(
        self, hook: str, *, leave_out: Container[Origin] = ()
    ) -> Iterator[tuple[Origin, list[Any] | Failure]]:
        """Call `hook` as each() does; yield who answered and a list of what it contributes.

        A thing that is not in a list is a contribution, too; a mapping contributes its items.
        """
        for origin, answer in self.each(hook, leave_out=leave_out):
            if isinstance(answer, Failure):
                yield origin, answer
                continue
            if answer is None:
                text = f"{origin} returns None from its hook {hook}; return a list, and [] for nothing."
                yield origin, Failure(PluginError(text))
                continue
            things: list[Any] | Failure
            try:
                # The answer may be a generator, whose code runs now.
                things = _things_in(answer)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                things = Failure(_blame(origin, hook, error))
            # Not above: whoever asks may stop asking, which is an exception here, and no fault of the plugin.
            yield origin, things

    def first(self, hook: str, **arguments: Any) -> Answer | None:
        """Return the first answer that is not None, and whose it is.

        Raises:
            PluginError: an implementation raised.
        """
        for origin, answer in self.each(hook, **arguments):
            if isinstance(answer, Failure):
                raise answer.error
            if answer is not None:
                return Answer(origin, answer)
        return None

    def _load_entry_point(self, entry_point: metadata.EntryPoint, settings: Settings) -> None:
        distribution = entry_point.dist
        name = _name_of(distribution)
        version = (versions.version_of(distribution) or "") if distribution is not None and name else ""
        origin = Origin(entry_point.name, name, version)
        # Two distributions may call their plugins the same.
        key = f"{name}:{entry_point.name}"
        if key in self._origins:
            return
        self._modules[origin] = entry_point.value.partition(":")[0].strip()
        names = {canonical(origin.plugin), canonical(name)}
        if names & set(map(canonical, settings.blocked)):
            self.not_asked.append((origin, f"blocked by {settings.whose('blocked')}"))
        elif settings.plugins is not None and not names & set(map(canonical, settings.plugins)):
            self.not_asked.append((origin, f"not on the allow-list of {settings.whose('plugins')}"))
        else:
            advice = f"Repair or uninstall it, or leave it out with ASCEND_OVERLAY_PLUGINS=-{origin.plugin}"
            self._try(origin, entry_point.load, advice, key)

    def _try(self, origin: Origin, load: Callable[[], object], advice: str, key: str | None = None) -> None:
        # Loading imports, and an import may start this very thing in another thread: no lock is held.
        try:
            self._register(load(), origin, key or origin.plugin)
        except PluginError as error:
            self.problems.append((origin, error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # sys.exit() in a plugin would end the program as if all were well.
            problem = PluginError(f"{origin} cannot be loaded: {_described(error)}. {advice}.")
            problem.__cause__ = error
            self.problems.append((origin, problem))

    def _register(self, plugin: object, origin: Origin, key: str) -> None:
        with self._lock:
            if self._manager.is_registered(plugin) or key in self._origins:
                return
            self._check_hooks(plugin, origin)
            try:
                self._manager.register(plugin, key)
            except (pluggy.PluginValidationError, ValueError) as error:
                self._manager.unregister(name=key)
                raise PluginError(f"{origin} does not fit the hooks of ascend_overlay: {error}") from error
            self._origins[key] = origin

    def _check_hooks(self, plugin: object, origin: Origin) -> None:
        known = [name for name in vars(spec) if name.startswith(f"{PROJECT}_")]
        implemented: list[str] = []
        for name in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, name)
            if options is None:
                if name in known:
                    raise PluginError(
                        f"{origin} defines {name} without the decorator @hookimpl, so it is never called."
                    )
                continue
            hook = options.get("specname") or name
            if hook not in known:
                raise PluginError(f"{origin} implements {hook!r}, which is no hook.{did_you_mean(hook, known)}")
            if options.get("wrapper") or options.get("hookwrapper"):
                raise PluginError(
                    f"{origin} implements {hook} as a wrapper around other plugins, which no hook allows."
                )
            if wrong := _not_offered(getattr(plugin, name), getattr(spec, hook)):
                raise PluginError(f"{origin} implements {hook} with {wrong}.")
            implemented.append(hook)
        if not implemented:
            raise PluginError(
                f"{origin} implements no hook; decorate its functions with ascend_overlay.hooks.hookimpl. "
                f"The hooks are {', '.join(known)}."
            )

    def _check_names(self, settings: Settings, entry_points: list[metadata.EntryPoint]) -> None:
        known = {ep.name for ep in entry_points} | {name for ep in entry_points if (name := _name_of(ep.dist))}
        canonical_names = set(map(canonical, known))
        named = [("plugins", name) for name in settings.plugins or ()]
        for option, name in [*named, *(("blocked", name) for name in settings.blocked)]:
            if canonical(name) not in canonical_names:
                whose = settings.whose(option)
                text = f"{whose} names {name!r}, but no installed plugin or distribution is called that"
                installed = ", ".join(sorted(known)) or "none"
                error = usage(PluginError(f"{text}; there are: {installed}.{did_you_mean(name, known)}"))
                self.problems.append((Origin(name), error))


class Answer(NamedTuple):
    """What a plugin answered."""

    origin: Origin
    value: Any


class Failure(NamedTuple):
    """The answer of a hook implementation that raised."""

    error: PluginError


def _things_in(answer: Any) -> list[Any]:
    if isinstance(answer, Mapping):
        return list(answer.items())
    return [answer] if isinstance(answer, str) or not hasattr(answer, "__iter__") else list(answer)


def _declares(node: ast.AST, overlay: str) -> bool:
    """Tell whether `node` makes an overlay of that name: Overlay("name", ...)."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    named = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
    return called == "Overlay" and any(isinstance(each, ast.Constant) and each.value == overlay for each in named)


def canonical(name: str) -> str:
    """Return the name of a distribution or plugin as it is compared: evil-dist, evil_dist and Evil.Dist are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _blame(origin: Origin, hook: str, error: BaseException) -> PluginError:
    blamed = PluginError(f"{origin} raised in its hook {hook}: {_described(error)}")
    blamed.__cause__ = error
    return blamed


def _described(error: BaseException) -> str:
    """Return what went wrong, and the last line that is neither ours nor the import system's."""
    text = told(error).rstrip(".")
    passed_over = (os.path.dirname(importlib.__file__), str(Path(__file__).parents[1]), *hooks.__path__)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<frozen ", *(folder + os.sep for folder in passed_over))):
            return f"{text} ({frame.filename}, line {frame.lineno})"
    return text


def _import(module: str, by: str) -> object:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            file = f" A module is named without .py: {module[:-3]!r}." if module.endswith(".py") else ""
            text = (
                f"plugin {module!r} cannot be loaded: there is no module {error.name!r}.{file} Correct the name in "
                f"{by}, or put the folder of the module on PYTHONPATH."
            )
            raise usage(PluginError(text)) from error
        raise


def _not_offered(implementation: Callable[..., Any], hook: Callable[..., Any]) -> str | None:
    """Return which argument an implementation demands that its hook does not have, or None."""
    offered = inspect.signature(hook).parameters
    for name, parameter in inspect.signature(implementation).parameters.items():
        demanded = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if demanded and parameter.default is parameter.empty and name not in offered:
            has = f"it has {', '.join(offered)}" if offered else "it has none"
            return f"the argument {name!r}, which the hook does not have; {has}"
    return None


def _installed() -> tuple[list[metadata.EntryPoint], list[str]]:
    """Return the entry points of all plugins that are installed, and the distributions that cannot be asked."""
    found = versions.memory()
    if "plugins" not in found:
        unreadable: list[str] = []
        found["plugins"] = sorted(_entry_points(unreadable), key=_by_name), unreadable
    points, without = found["plugins"]
    return [*points], [*without]


def _entry_points(unreadable: list[str]) -> Iterator[metadata.EntryPoint]:
    """Yield the entry points of all plugins that are installed; add distributions that cannot be asked to `unreadable`.

    metadata.entry_points() reads apart what every distribution has; most have nothing for us.
    """
    for distribution in metadata.distributions():
        try:
            if ENTRY_POINT_GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
        except UnicodeDecodeError:
            unreadable.append(_name_of(distribution))
            continue
        try:
            first = metadata.distribution(_name_of(distribution))
        except (metadata.PackageNotFoundError, ValueError):
            # Its folder is not named as it is, or it has no name: an installation was interrupted.
            first = distribution
        # One of the same name that comes before it on sys.path hides it.
        if str(first.locate_file("")) != str(distribution.locate_file("")):
            continue
        try:
            yield from distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        except (TypeError, ValueError):
            # A line without a "=".
            unreadable.append(_name_of(distribution))


def _name_of(distribution: metadata.Distribution | None) -> str:
    """Return the name of a distribution; empty where its metadata has none."""
    try:
        return (distribution.name if distribution is not None else "") or ""
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return ""


def _by_name(entry_point: metadata.EntryPoint) -> tuple[str, str]:
    return _name_of(entry_point.dist), entry_point.name


def _own_version() -> str:
    return versions.distribution_version("ascend_overlay") or ""


def _origin_of_module(module: str) -> Origin:
    top = module.partition(".")[0]
    for name in metadata.packages_distributions().get(top, ()):
        return Origin(module, name, versions.distribution_version(name) or "")
    return Origin(module)
