"""What the user asked for: the arguments of enable() over the environment over the defaults.

`Settings.to_env` is the inverse of `Settings.from_env`: it is how a parent process tells its children.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ascend_overlay.errors import ConfigError, did_you_mean, represented, usage

PREFIX = "ASCEND_OVERLAY"
_TRUE = {"1", "true", "yes", "on"}
FALSE = {"", "0", "false", "no", "off"}
"""Values of a variable that switch off what it is for."""

WEIGHT_NZ = ("off", "quantized", "all")
"""What `weight_nz` takes; see ascend_overlay.npu.layout."""
FOREIGN = ("error", "warn", "accept")
"""What `foreign` takes."""
DRIFT = ("error", "warn", "accept")
"""What `drift` takes."""

_VARIABLES = {
    "only": PREFIX,
    "exclude": PREFIX,
    "require": f"{PREFIX}_REQUIRE",
    "strict": f"{PREFIX}_STRICT",
    "plugins": f"{PREFIX}_PLUGINS",
    "blocked": f"{PREFIX}_PLUGINS",
    "load": f"{PREFIX}_LOAD",
    "prefer": f"{PREFIX}_PREFER",
    "ledger": f"{PREFIX}_LEDGER",
    "trace": f"{PREFIX}_TRACE",
    "weight_nz": f"{PREFIX}_WEIGHT_NZ",
    "foreign": f"{PREFIX}_FOREIGN",
    "fused_qkv": f"{PREFIX}_FUSED_QKV",
    "lock": f"{PREFIX}_LOCK",
    "drift": f"{PREFIX}_DRIFT",
    "vllm_release": f"{PREFIX}_VLLM_RELEASE",
    "fused_quant": f"{PREFIX}_FUSED_QUANT",
    "fused_experts": f"{PREFIX}_FUSED_EXPERTS",
    "graph_wait": f"{PREFIX}_GRAPH_WAIT",
}
"""The variable of each setting."""
_NPU = tuple(
    f"{PREFIX}_NPU{part}" for part in ("", "_DEVICES", "_MEMORY", "_REPORT", "_PATIENCE", "_POISON", "_SANITIZE")
)
GIVEN_BY = f"{PREFIX}_GIVEN_BY"
"""The variable by which children know how the user gave a setting: an error names that, not what it became."""
VARIABLES = tuple(dict.fromkeys([*_VARIABLES.values(), *_NPU, f"{PREFIX}_RUN", GIVEN_BY]))
"""All variables that mean anything: those of settings, those of the software NPU, and what is told to children."""
_ANY = "any"
"""The setting in `given_by` that stands for all: by what the user gives settings here."""


@dataclass(frozen=True)
class Settings:
    """Settings of one process.

    Attributes:
        only: names of the overlays to enable; empty means every overlay that fits the environment.
        exclude: names of overlays to leave out.
        require: names of overlays that must be in force in every process that has a use for them.
        strict: an overlay or plugin that fails stops the program; False makes it a warning and a ledger entry.
        plugins: allow-list of third-party plugins by entry-point or distribution name; None allows all.
        blocked: third-party plugins to leave out.
        load: importable modules to register as plugins without an entry point.
        prefer: target -> name of the overlay that wins a conflict on it.
        ledger: folder that gets one ledger file per process.
        trace: count the calls of NPU operators.
        weight_nz: which weights are put into the layout FRACTAL_NZ after loading: "off", "quantized" or "all".
        fused_qkv: norms, rotary embedding and cache write of a layer with norms of queries and keys are one operator.
        fused_quant: norms and activations whose result is quantized alone are one operator with that.
        fused_experts: the first product of int8 experts, their activation and its quantization are one operator.
        graph_wait: the host waits for the last replay of a captured graph before attention in it gets new lengths.
        foreign: what somebody else's change of a patched place is: "error", "warn" or "accept".
        lock: the path of an overlay.lock that targets and plugins are compared with; None: of none.
        drift: what a difference from the lock is: "error", "warn" or "accept".
        vllm_release: which release of vLLM a build is whose version does not say so; None: what its version says.
        given_by: which argument, option or variable gave a setting, or a name in it, where that is not its variable.
    """

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    strict: bool = True
    plugins: tuple[str, ...] | None = None
    blocked: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    prefer: Mapping[str, str] = field(default_factory=dict)
    ledger: str | None = None
    trace: bool = False
    weight_nz: str = "quantized"
    fused_qkv: bool = False
    fused_quant: bool = True
    fused_experts: bool = False
    graph_wait: bool = True
    foreign: str = "warn"
    lock: str | None = None
    drift: str = "error"
    vllm_release: str | None = None
    given_by: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `environ` (default: os.environ).

        Raises:
            ConfigError: a variable has a value that means nothing, or a name that means nothing.
        """
        env = os.environ if environ is None else environ
        for name in env:
            if name.startswith(PREFIX) and name not in VARIABLES:
                raise _wrong(
                    f"the environment has {name}, which is no setting; there are {', '.join(VARIABLES)}."
                    f"{did_you_mean(name, VARIABLES)} Correct the name, or unset it."
                )
        selection = env.get(PREFIX, "").strip()
        only, exclude = ((), ()) if selection.lower() in _TRUE | FALSE else _split_signed(selection, whose=PREFIX)
        # "1,-compat" is everything but that.
        only = tuple(name for name in only if name.lower() not in _TRUE)
        allowed: tuple[str, ...] | None = None
        blocked: tuple[str, ...] = ()
        if f"{PREFIX}_PLUGINS" in env:
            named, blocked = _split_signed(env[f"{PREFIX}_PLUGINS"], whose=f"{PREFIX}_PLUGINS")
            allowed = named if named or not blocked else None
        found = cls(
            only=only,
            exclude=exclude,
            require=() if declined(env) else _names(env.get(f"{PREFIX}_REQUIRE", ""), whose=f"{PREFIX}_REQUIRE"),
            strict=_flag(env, f"{PREFIX}_STRICT", default=True),
            plugins=allowed,
            blocked=blocked,
            load=_names(env.get(f"{PREFIX}_LOAD", ""), whose=f"{PREFIX}_LOAD"),
            prefer=preferences(env.get(f"{PREFIX}_PREFER", ""), whose=f"{PREFIX}_PREFER"),
            ledger=env.get(f"{PREFIX}_LEDGER") or None,
            trace=_flag(env, f"{PREFIX}_TRACE", default=False),
            weight_nz=_one_of(WEIGHT_NZ, env.get(f"{PREFIX}_WEIGHT_NZ") or "quantized", whose=f"{PREFIX}_WEIGHT_NZ"),
            fused_qkv=_flag(env, f"{PREFIX}_FUSED_QKV", default=False),
            fused_quant=_flag(env, f"{PREFIX}_FUSED_QUANT", default=True),
            fused_experts=_flag(env, f"{PREFIX}_FUSED_EXPERTS", default=False),
            graph_wait=_flag(env, f"{PREFIX}_GRAPH_WAIT", default=True),
            foreign=_one_of(FOREIGN, env.get(f"{PREFIX}_FOREIGN") or "warn", whose=f"{PREFIX}_FOREIGN"),
            lock=env.get(f"{PREFIX}_LOCK") or None,
            drift=_one_of(DRIFT, env.get(f"{PREFIX}_DRIFT") or "error", whose=f"{PREFIX}_DRIFT"),
            vllm_release=_release(env.get(f"{PREFIX}_VLLM_RELEASE") or None, whose=f"{PREFIX}_VLLM_RELEASE"),
            given_by=_told(env.get(GIVEN_BY, "")),
        )
        if found.require:
            found._see_contradictions()
        return found

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return what to put over `environ` so that `from_env` gives these settings again.

        A list of plugins that these settings have none of is left as it is: an empty one would allow none.
        """
        env = self.to_env()
        if self.given_by:
            env[GIVEN_BY] = ",".join(f"{setting}:{whose}" for setting, whose in self.given_by.items())
        said = [name for name in _VARIABLES.values() if name in environ and name not in env]
        return env | {name: "" for name in said if name != _VARIABLES["plugins"]}

    def to_env(self) -> dict[str, str]:
        """Return the variables that make `from_env` give these settings again, where no other is set."""
        env = {
            PREFIX: ",".join([*self.only, *(f"-{name}" for name in self.exclude)]) or "1",
            f"{PREFIX}_STRICT": "1" if self.strict else "0",
            f"{PREFIX}_FUSED_QUANT": "1" if self.fused_quant else "0",
            f"{PREFIX}_GRAPH_WAIT": "1" if self.graph_wait else "0",
        }
        if self.require:
            env[f"{PREFIX}_REQUIRE"] = ",".join(self.require)
        if self.plugins is not None or self.blocked:
            env[f"{PREFIX}_PLUGINS"] = ",".join([*(self.plugins or ()), *(f"-{name}" for name in self.blocked)])
        if self.load:
            env[f"{PREFIX}_LOAD"] = ",".join(self.load)
        if self.prefer:
            env[f"{PREFIX}_PREFER"] = ",".join(f"{target}={name}" for target, name in self.prefer.items())
        if self.ledger:
            env[f"{PREFIX}_LEDGER"] = os.path.abspath(self.ledger)
        if self.trace:
            env[f"{PREFIX}_TRACE"] = "1"
        if self.weight_nz != "quantized":
            env[f"{PREFIX}_WEIGHT_NZ"] = self.weight_nz
        if self.fused_qkv:
            env[f"{PREFIX}_FUSED_QKV"] = "1"
        if self.fused_experts:
            env[f"{PREFIX}_FUSED_EXPERTS"] = "1"
        if self.foreign != "warn":
            env[f"{PREFIX}_FOREIGN"] = self.foreign
        if self.lock:
            env[f"{PREFIX}_LOCK"] = os.path.abspath(self.lock)
        if self.drift != "error":
            env[f"{PREFIX}_DRIFT"] = self.drift
        if self.vllm_release:
            env[f"{PREFIX}_VLLM_RELEASE"] = self.vllm_release
        return env

    def updated(
        self,
        *,
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
        by: Callable[[str], str] = "{}=".format,
    ) -> Settings:
        """Return a copy with the given values; None leaves a value as it is.

        What is left out and what is required adds to what was; `by` makes the words of a message for who gives a value.

        Raises:
            ConfigError: a value is of the wrong kind, or an overlay is asked for and left out.
        """
        only = _overlays("only", only, by)
        exclude = _overlays("exclude", exclude, by)
        require = _overlays("require", require, by)
        given: dict[str, object] = {
            "only": only,
            "exclude": exclude,
            "require": require,
            "plugins": plugins,
            "load": load,
        }
        given |= {"prefer": prefer, "ledger": ledger, "weight_nz": weight_nz, "foreign": foreign}
        given |= {"lock": lock, "drift": drift}
        given["vllm_release"] = vllm_release
        result = replace(self, given_by={**self.given_by, **_sources(given, by), _ANY: by(_ANY)})
        if only is not None:
            result = replace(result, only=only)
        if exclude is not None:
            result = replace(result, exclude=_union(self.exclude, exclude))
        if require is not None:
            result = replace(result, require=_union(self.require, require))
        if plugins is not None:
            result = replace(result, plugins=_sequence("plugins", plugins))
        if load is not None:
            result = replace(result, load=_sequence("load", load))
        if prefer is not None:
            if not isinstance(prefer, Mapping):
                raise _wrong(f"{by('prefer')} is {represented(prefer)}; it takes a dict, target -> overlay.")
            result = replace(result, prefer=dict(prefer))
        if ledger is not None:
            if not isinstance(ledger, (str, os.PathLike)) or "\0" in os.fspath(ledger):
                raise _wrong(f"{by('ledger')} is {represented(ledger)}; it takes the path of a folder.")
            result = replace(result, ledger=os.fspath(ledger))
        if strict is not None:
            result = replace(result, strict=strict)
        if trace is not None:
            result = replace(result, trace=trace)
        if weight_nz is not None:
            result = replace(result, weight_nz=_one_of(WEIGHT_NZ, weight_nz, whose="weight_nz"))
        if fused_qkv is not None:
            result = replace(result, fused_qkv=fused_qkv)
        if fused_quant is not None:
            result = replace(result, fused_quant=fused_quant)
        if fused_experts is not None:
            result = replace(result, fused_experts=fused_experts)
        if graph_wait is not None:
            result = replace(result, graph_wait=graph_wait)
        if foreign is not None:
            result = replace(result, foreign=_one_of(FOREIGN, foreign, whose="foreign"))
        if lock is not None:
            if not isinstance(lock, (str, os.PathLike)) or "\0" in os.fspath(lock) or not os.fspath(lock):
                raise _wrong(f"{by('lock')} is {lock!r}; it takes the path of an overlay.lock.")
            result = replace(result, lock=os.fspath(lock))
        if drift is not None:
            result = replace(result, drift=_one_of(DRIFT, drift, whose="drift"))
        if vllm_release is not None:
            result = replace(result, vllm_release=_release(vllm_release, whose=by("vllm_release")))
        result._see_contradictions()
        return result

    def _see_contradictions(self) -> None:
        """See that one does not ask for what the other leaves out; who says both chooses among what it names."""
        for option in ("only", "require"):
            for name in getattr(self, option):
                asks, leaves_out = self.whose(option, name), self.whose("exclude", name)
                same = _way(asks) == _way(leaves_out)
                if name in self.exclude and (option == "require" or not same):
                    raise _wrong(
                        f"the overlay {name!r} is asked for ({asks}) and left out ({leaves_out}); take it out of one "
                        f"of the two."
                    )

    def whose(self, setting: str, name: str = "") -> str:
        """Return what gave a setting, or `name` in it: "--only", "only=" or "ASCEND_OVERLAY"."""
        return self.given_by.get(f"{setting} {name}") or self.given_by.get(setting) or _VARIABLES[setting]

    def advice(self, setting: str, value: str = "") -> str:
        """Return how the user can give a setting here, by what they gave others: "--foreign accept".

        Args:
            setting: its name.
            value: what to give; empty: whatever it takes.
        """
        way, variable = _way(self.given_by.get(_ANY, "")), _VARIABLES[setting]
        if way == "option":
            option = f"--{setting.replace('_', '-')}"
            return f"{option} {shlex.quote(value)}" if value else option
        by_variable = f"{variable}=-{value or 'NAME'}" if setting == "exclude" else f"{variable}={shlex.quote(value)}"
        if way == "variable":
            return by_variable
        argument = f"{setting}={[value] if setting == 'exclude' else value!r}"
        return f"{argument} or {by_variable}" if value else f"{setting}="

    def joined(self, earlier: Settings, in_use: Iterable[str] = ()) -> Settings:
        """Return settings that select what these or the `earlier` ones select; these win in everything else.

        Args:
            earlier: what was in force before.
            in_use: third-party plugins of which something is enabled.
        """

        def wanted(name: str) -> bool:
            return any(settings.selects(name) for settings in (self, earlier))

        both = _union(earlier.only, self.only) if self.only and earlier.only else ()
        # An allow-list that was given once holds until everything is disabled. What is enabled already stays, here and
        # in the processes that are started from here.
        allowed = earlier.plugins
        if self.plugins is not None:
            allowed = _union(in_use if earlier.plugins is None else earlier.plugins, self.plugins)
        return replace(
            self,
            only=both,
            exclude=tuple(name for name in _union(earlier.exclude, self.exclude) if not wanted(name)),
            require=_union(earlier.require, self.require),
            plugins=allowed,
            blocked=_union(earlier.blocked, self.blocked),
            load=_union(earlier.load, self.load),
            prefer={**earlier.prefer, **self.prefer},
            ledger=self.ledger or earlier.ledger,
            trace=self.trace or earlier.trace,
            lock=self.lock or earlier.lock,
            vllm_release=self.vllm_release or earlier.vllm_release,
            given_by={**earlier.given_by, **self.given_by},
        )

    def selects(self, name: str) -> bool:
        """Tell whether these settings ask for the overlay `name`; machinery comes with whatever they ask for."""
        return (not self.only or name in self.only or name in self.require) and name not in self.exclude

    def without(self, names: Iterable[str]) -> Settings:
        """Return settings that do not select `names`."""
        gone = tuple(names)
        left = replace(self, require=tuple(name for name in self.require if name not in gone))
        only = tuple(name for name in self.only if name not in gone)
        if only or not self.only:
            return replace(left, only=only, exclude=_union(self.exclude, () if only else gone))
        return replace(left, exclude=_union(self.exclude, gone))


def requested(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether the environment asks for overlays at all."""
    env = os.environ if environ is None else environ
    return env.get(PREFIX, "").strip().lower() not in FALSE


def declined(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether the environment says that there are to be no overlays; to say nothing is not to say so.

    A program that enables some in spite of it changes the environment, unless its children are to have none.
    """
    env = os.environ if environ is None else environ
    return bool(env.get(PREFIX, "").strip()) and not requested(env)


def required(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the overlays that the environment requires, also where it switches all off, which is stronger."""
    env = os.environ if environ is None else environ
    return _listed(env.get(_VARIABLES["require"], ""))


def not_in_force(names: Iterable[str]) -> str:
    """Return " ..." on overlays that are required and not in force, because all are switched off; empty for none."""
    gone = ", ".join(dict.fromkeys(names))
    return f" Required, and not in force: {gone}." if gone else ""


def by_options(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether it was options of a command that gave the environment its settings."""
    env = os.environ if environ is None else environ
    return _way(_told(env.get(GIVEN_BY, "")).get(_ANY, "")) == "option"


_current: Settings | None = None
_listeners: list[Callable[[], object]] = []


def current() -> Settings:
    """Return the settings in force in this process: those of the last enable(), else those of the environment."""
    return _current if _current is not None else Settings.from_env()


def in_force() -> Settings | None:
    """Return the settings of the last enable(), or None where nothing is enabled."""
    return _current


def use(settings: Settings | None) -> None:
    """Put `settings` in force (None: the environment again)."""
    global _current
    _current = settings
    for listener in _listeners:
        listener()


def advice(setting: str, value: str = "") -> str:
    """Return how the user can give a setting, by what they gave those in force."""
    return current().advice(setting, value)


def on_change(listener: Callable[[], object]) -> None:
    """Call `listener` whenever other settings come into force in this process."""
    _listeners.append(listener)


def _way(whose: str) -> str:
    """Return by what a setting was given: "option", "argument" or "variable"."""
    if whose.startswith("--"):
        return "option"
    return "argument" if whose.endswith("=") else "variable"


def _told(text: str) -> dict[str, str]:
    """Return what a parent process says of who gave what; of what has another form, nothing."""
    parts = (part.rpartition(":") for part in text.split(","))
    return {setting: whose for setting, _, whose in parts if setting and _way(whose) != "variable"}


def _wrong(text: str) -> ConfigError:
    """Return the error on a setting that means nothing: no command has an answer with it."""
    return usage(ConfigError(text))


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *second]))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _names(text: str, *, whose: str) -> tuple[str, ...]:
    found = _listed(text)
    if text.strip() and not found:
        # Variables of a shell that are empty: nothing of what was meant would be in force.
        raise _wrong(f"{whose} is {text!r}, which names nothing; name something, or unset it.")
    return found


def _split_signed(text: str, *, whose: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = _names(text, whose=whose)
    wanted = tuple(name for name in names if not name.startswith("-"))
    return wanted, tuple(name[1:] for name in names if name.startswith("-"))


def _sources(given: Mapping[str, object], by: Callable[[str], str]) -> dict[str, str]:
    """Return who gave each setting that is given, and each name of those that add to others."""
    found = {name: by(name) for name, value in given.items() if value is not None}
    for name in ("exclude", "require"):
        value = given[name]
        if isinstance(value, tuple):
            found.update({f"{name} {item}": by(name) for item in value})
            del found[name]
    return found


def _overlays(setting: str, names: Iterable[str] | None, by: Callable[[str], str]) -> tuple[str, ...] | None:
    """Return names of overlays, none of which means something else in a variable.

    Raises:
        ConfigError: one does.
    """
    if names is None:
        return None
    whose, found = by(setting), _sequence(setting, names)
    for name in found:
        if name.lower() in _TRUE | FALSE or name.startswith("-"):
            raise _wrong(f"{whose} has {name!r}, which is no name of an overlay; {PREFIX} alone takes 1, 0 and -NAME.")
    return found


def _flag(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise _wrong(f"{name} is {text!r}; it takes 1 or 0.")


def preferences(text: str, *, whose: str) -> dict[str, str]:
    """Parse "TARGET=OVERLAY,TARGET=OVERLAY"; `whose` is named in the error.

    Raises:
        ConfigError: an entry has another form.
    """
    found: dict[str, str] = {}
    for entry in _names(text, whose=whose):
        target, _, overlay = entry.rpartition("=")
        if not target or not overlay:
            raise _wrong(f"{whose} has the entry {entry!r}; each entry is TARGET=OVERLAY.")
        found[target] = overlay
    return found


def _one_of(known: Sequence[str], text: str, *, whose: str) -> str:
    if text not in known:
        raise _wrong(f"{whose} is {text!r}; it takes {', '.join(known)}.{did_you_mean(text, known)}")
    return text


def _release(text: str | None, *, whose: str) -> str | None:
    if text is None:
        return None
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(text))
    except (InvalidVersion, TypeError):
        raise _wrong(f"{whose} is {text!r}, which is no release of vLLM; write it as '0.32.0'.") from None


def _sequence(name: str, value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise _wrong(f"{name}={value!r} is a string; pass a list of names, {name}=[{value!r}].")
    if not isinstance(value, Iterable):
        raise _wrong(f"{name}={represented(value)} is no list; pass a list of names.")
    found = tuple(value)
    if not all(isinstance(each, str) for each in found):
        raise _wrong(f"{name}={represented(list(found))} has what is no text; pass a list of names.")
    return found
