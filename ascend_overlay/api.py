"""The public face: what a program, a plugin and the ways in call."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from ascend_overlay import settings as settings_module
from ascend_overlay.engine import proof
from ascend_overlay.engine.engine import Engine
from ascend_overlay.engine.plugins import Failure
from ascend_overlay.errors import ConfigError, PluginError, represented
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.overlay import Overlay
from ascend_overlay.settings import Settings

_engine = Engine()


def enable(
    *overlays: Overlay | str,
    only: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    require: Iterable[str] | None = None,
    strict: bool | None = None,
    plugins: Iterable[str] | None = None,
    load: Iterable[str] | None = None,
    prefer: Mapping[str, str] | None = None,
    ledger: str | os.PathLike[str] | None = None,
    trace: bool | None = None,
    weight_nz: str | None = None,
    fused_qkv: bool | None = None,
    fused_quant: bool | None = None,
    fused_experts: bool | None = None,
    graph_wait: bool | None = None,
    foreign: str | None = None,
    lock: str | os.PathLike[str] | None = None,
    drift: str | None = None,
    vllm_release: str | None = None,
    propagate: bool = True,
) -> None:
    """Enable overlays in this process and in those that it will start.

    May be called before or after vLLM was imported, from any thread, any number of times: what is enabled already stays
    as it is. What is not given is taken from the environment (docs/configuration.md).

    Args:
        overlays: overlays to enable, and no others: names, or Overlay objects of this program, which no plugin
            contributes and which the processes that it starts do not have.
        only: names of the overlays to enable; default: all that fit this environment. Machinery, such as `roles` and
            `caches`, comes with whatever is enabled.
        exclude: names of overlays to leave out, beside those that the environment leaves out.
        require: names of overlays to enable that must be in force in every process which has a use for them: where one
            is not, that is an error, whatever `strict` and `foreign` say.
        strict: False turns errors of overlays and plugins into warnings and ledger entries.
        plugins: allow-list of third-party plugins.
        load: modules to register as plugins.
        prefer: target -> overlay that wins a conflict on it.
        ledger: folder for one ledger file per process.
        trace: count the calls of NPU operators.
        weight_nz: which weights are put into the layout FRACTAL_NZ after loading: "off", "quantized" or "all".
        fused_qkv: norms, rotary embedding and cache write of a layer with norms of queries and keys are one operator.
        fused_quant: norms and activations whose result is quantized alone are one operator with that (the default).
        fused_experts: the first product of int8 experts, their activation and its quantization are one operator.
        graph_wait: the host waits for the last replay of a captured graph before attention in it gets new lengths (the
            default); else the device does.
        foreign: what somebody else's change of a patched place is: "error", "warn" (a log line; the default) or
            "accept". The ledger names it in any case.
        lock: an overlay.lock, with which targets and plugins are compared before anything is patched.
        drift: what a difference from the lock is: "error" (the default), "warn" (a log line), or "accept" (a note).
        vllm_release: which release of vLLM the installed one is, where its version does not say so, as that of a
            checkout without tags: "0.32.0".
        propagate: False leaves os.environ alone, so that child processes run without overlays.

    Raises:
        OverlayError: an overlay, plugin or setting cannot be used; nothing of this call stays behind.
    """
    named, given = _asked_for(overlays, only)
    settings = _engine.settings(
        only=named,
        exclude=exclude,
        require=require,
        strict=strict,
        plugins=plugins,
        load=load,
        prefer=prefer,
        ledger=ledger,
        trace=trace,
        weight_nz=weight_nz,
        fused_qkv=fused_qkv,
        fused_quant=fused_quant,
        fused_experts=fused_experts,
        graph_wait=graph_wait,
        foreign=foreign,
        lock=lock,
        drift=drift,
        vllm_release=vllm_release,
    )
    _engine.enable(settings, propagate=propagate, given=given)


def _asked_for(
    overlays: tuple[Overlay | str, ...], only: Iterable[str] | None
) -> tuple[Iterable[str] | None, list[Overlay]]:
    """Return the names of what is asked for, and the objects among it."""
    for overlay in overlays:
        if not isinstance(overlay, (Overlay, str)):
            raise ConfigError(
                f"enable() was given {represented(overlay)}; it takes Overlay objects and names of overlays, and "
                f"everything else by its name: enable(only=[...], strict=...)."
            )
    if isinstance(only, str):
        raise ConfigError(f"only={only!r} is a string; pass a list of names, only=[{only!r}].")
    if only is not None and not isinstance(only, Iterable):
        raise ConfigError(f"only={represented(only)} is no list; pass a list of names.")
    if only is not None and not (only := tuple(only)) and not overlays:
        raise ConfigError("only= names no overlay, so nothing would be enabled; without only=, all that fit are.")
    if not overlays:
        return only, []
    names = [overlay if isinstance(overlay, str) else overlay.name for overlay in overlays]
    return [*names, *(only or ())], [overlay for overlay in overlays if isinstance(overlay, Overlay)]


def enable_from_environment() -> bool:
    """Enable what the environment asks for; the one door of all automatic ways in. Return whether that is done.

    Called inside the import of vLLM. If another thread is in enable() at that moment, it may itself be waiting for that
    import: waiting for it in turn would never end, and it patches modules late just as well.
    """
    return _engine.enable_automatically()


def enable_for_listing(settings: Settings) -> None:
    """Enable in this process alone and without a ledger file, to show what would happen."""
    _engine.enable(dataclasses.replace(settings, ledger=None), propagate=False)


def judge(settings: Settings) -> Ledger:
    """Return what enable() would make of `settings` by versions, conditions and conflicts; nothing is touched.

    Raises:
        OverlayError: a plugin cannot be loaded, or the settings name what does not exist.
    """
    return _engine.judge(settings)


def check_settings(settings: Settings) -> None:
    """See that the plugins load and the overlays that `settings` name exist, without enabling anything.

    Raises:
        OverlayError: not so.
    """
    _engine.check(settings)


def disable(*, only: Iterable[str] | None = None, force: bool = False) -> None:
    """Take overlays back: what they touched is again the very object that was there before.

    Args:
        only: names of the overlays to take back; default: all.
        force: do so even while a vLLM engine is alive in this process.

    Raises:
        ActivationError: a vLLM engine is alive.
        ConfigError: there is no overlay of such a name.
    """
    _engine.switch_off(only, force=force)


@contextlib.contextmanager
def enabled(*overlays: Overlay | str, **arguments: Any) -> Iterator[None]:
    """Enable overlays for the length of a with-block; takes the arguments of enable().

    What was enabled before the block stays enabled after it.
    """
    before = settings_module.in_force()
    propagate = arguments.pop("propagate", True)
    arguments["only"], given = _asked_for(overlays, arguments.get("only"))
    names: list[str] = []
    _engine.enable(_engine.settings(**arguments), propagate=propagate, added=names, given=given)
    inside = settings_module.in_force()
    try:
        yield
    finally:
        # What was enabled or disabled in the block holds after it.
        unchanged = settings_module.in_force() is inside
        _engine.disable(names, force=True, settings=before if unchanged else None)


def ledger() -> Ledger:
    """Return the ledger of this process: iterable, printable as a table, convertible to JSON."""
    return _engine.ledger()


def entries_of(target: str) -> list[Entry]:
    """Return what the ledger has of a target, as it was when somebody last looked."""
    return _engine.entries_of(target)


def write_ledger() -> None:
    """Write the ledger file of this process now, if there is a ledger folder."""
    _engine.journal.write()


def contributions(
    hook: str, *, forgive: Callable[[PluginError], bool] = lambda error: False
) -> Iterator[tuple[str, Any]]:
    """Ask all plugins what they contribute by `hook`; yield each thing with the words that name its contributor.

    Args:
        hook: the hook.
        forgive: tells of an error whether it is known, and the other plugins go on.

    Raises:
        PluginError: a plugin raises.
    """
    for origin, answer in _engine.plugins.contributions(hook):
        if isinstance(answer, Failure):
            if forgive(answer.error):
                continue
            raise answer.error
        for thing in answer:
            yield str(origin), thing


def enabled_names() -> list[str]:
    """Return the names of the overlays that are enabled."""
    return _engine.enabled_names()


def overlays() -> Mapping[str, Overlay]:
    """Return the overlays that plugins contribute, by name; known once settings were checked or overlays enabled."""
    return _engine.overlays


def contributed() -> Mapping[str, tuple[Overlay, str]]:
    """Return what overlays() does, each with the words that name its contributor."""
    return _engine.contributed


def see_known(overlay: str, whose: str = "") -> None:
    """See that a plugin contributes an overlay, which `whose` names; known once settings were checked.

    Raises:
        ConfigError: none does.
    """
    _engine.see_known(overlay, whose)


def distributions(overlays: Collection[str] = ()) -> Mapping[str, str]:
    """Return the distributions that brought `overlays`, by default all that there are, each with its version."""
    return _engine.distributions(overlays)


def note(overlay: str, text: str) -> None:
    """Add a remark to the ledger of this process, on behalf of the overlay named `overlay`."""
    _engine.journal.note(overlay, text)


def register(plugin: object, name: str | None = None) -> None:
    """Register a plugin object in this process only.

    Child processes do not get it; a plugin that must reach them is installed with an entry point, or is an importable
    module named by `load=`.

    Raises:
        PluginError: it does not fit the hooks.
    """
    origin = _engine.plugins.register(plugin, name)
    _engine.journal.note("", f"{origin} was registered by hand, so processes started from here do not have it")


def unregister(plugin: object) -> None:
    """Take back register(): the plugin is asked no more, and what it contributed is not known any more.

    Args:
        plugin: the object that was registered, or its name.

    Raises:
        PluginError: it was not registered by hand.
        ActivationError: an overlay that it contributed is enabled; disable() comes first.
    """
    _engine.unregister(plugin)


def look() -> None:
    """Look whether every patch is in force that should be; see the setting `foreign`.

    Raises:
        ForeignError: somebody else's change covers a patch, and the settings say that this is an error.
    """
    _engine.look()


def enter_role(name: str) -> None:
    """Note that this process plays a further role of vLLM (see ascend_overlay.process.ROLES)."""
    _engine.enter_role(name)


def shown() -> dict[str, Any]:
    """Return what this process has, for the one that started it."""
    return _engine.children.shown()


def owed() -> dict[str, Any] | None:
    """Return what a process that is started from here is to have; None where that is nothing."""
    return _engine.children.owed()


def told() -> dict[str, str] | None:
    """Return the variables that tell a process what it is to have; None where that is nothing."""
    return _engine.children.told()


def not_for_children() -> list[str]:
    """Return the names of the overlays that only this process can have."""
    return _engine.children.left_out()


def prove(owed: Mapping[str, Any]) -> None:
    """See that this process lacks nothing of what the one that started it shows.

    Raises:
        ProcessError: it does, and the settings are strict.
    """
    _engine.children.prove(owed)


def see_child(owed: Mapping[str, Any], has: Mapping[str, Any], around: Mapping[str, str]) -> None:
    """See that a process which shows what it `has` lacks nothing of what it is `owed`; `around`: its surroundings.

    Raises:
        ProcessError: it does, and the settings are strict.
    """
    _engine.children.see(owed, has, around)


def surroundings() -> dict[str, str]:
    """Return where this process looks for overlays, by name, for another one that is to say so."""
    return proof.surroundings()


def see_peer(
    owed: Mapping[str, Any], has: Mapping[str, Any], around: Mapping[str, str], *, whose: str, here: str
) -> None:
    """See that a process which this one did not start lacks nothing of what it is `owed`.

    Args:
        owed: what it is to have.
        has: what it shows.
        around: its surroundings.
        whose: words that name it.
        here: words that name this process.

    Raises:
        ProcessError: it does, and the settings are strict.
    """
    _engine.children.see_peer(owed, has, around, whose=whose, here=here)
