"""Overlay: a named set of patches, declared."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from ascend_overlay import patches, versions
from ascend_overlay.conditions import Condition
from ascend_overlay.errors import ConfigError, OverlayError, say_where
from ascend_overlay.patches import Patch, naming
from ascend_overlay.patches.base import NOT_GIVEN
from ascend_overlay.places.target import MISSING, Target

_F = TypeVar("_F", bound=Callable[..., Any])
_P = ParamSpec("_P")
_R = TypeVar("_R")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_SWITCHES = {"true", "false", "yes", "no", "on", "off"}
"""What ASCEND_OVERLAY takes for other things than names."""


@contextlib.contextmanager
def _declaring(overlay: str, kind: str = "", target: object = None) -> Iterator[None]:
    try:
        yield
    except OverlayError as error:
        say_where(error, f"overlay {overlay!r}", kind, target)
        raise


def _says_where(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have each error of a method that declares a patch name the overlay, the kind and the target."""

    @functools.wraps(method)
    def declare(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        overlay, *given = args
        target = next(iter([*given, *kwargs.values()]), None)
        assert isinstance(overlay, Overlay)
        with _declaring(overlay.name, method.__name__, target):
            return method(*args, **kwargs)

    return declare


class Overlay:
    """A named set of patches that only make sense together: applied as a whole or not at all.

    Declaring touches nothing; a plugin hands the overlay to ascend_overlay, and enable() applies it.

    Args:
        name: unique, lower case letters, digits and underscores.
        reason: one sentence: why this exists.
        vllm: PEP 440 range of vLLM releases; outside it the overlay is skipped.
        torch: the same for torch.
        torch_npu: the same for torch_npu; only checked where torch_npu is installed.
        requires: the same for other importable packages, by name; a missing package rules the overlay out.
        upstream: the issue or change that would make this unnecessary, or None.
        retire: "vllm>=0.40": from there on the ledger says that the overlay is no longer needed.
        upstream_marker: "vllm.module:Name": a release that has this name does without the overlay, as `ascend-overlay
            check` then says.
        when: a condition for the overlay as a whole.
        after: names of overlays whose wrappers go inside this one's.
        before: names of overlays whose wrappers go around this one's.
        default: False: only enabled when named.
        machinery: it changes nothing by itself, and others rely on it: enabled with any of them, whichever are named.

    Raises:
        ConfigError: a name, range or reason is not usable.
    """

    def __init__(
        self,
        name: str,
        *,
        reason: str,
        vllm: str | None = None,
        torch: str | None = None,
        torch_npu: str | None = None,
        requires: Mapping[str, str] | None = None,
        upstream: str | None = None,
        retire: str | None = None,
        upstream_marker: str | None = None,
        when: Condition | None = None,
        after: Sequence[str] = (),
        before: Sequence[str] = (),
        default: bool = True,
        machinery: bool = False,
    ) -> None:
        if not isinstance(name, str) or not _NAME.match(name) or name in _SWITCHES:
            raise ConfigError(f"{name!r} cannot name an overlay; use lower case letters, digits and underscores.")
        naming.text(reason, f"the reason of overlay {name!r}")
        naming.text(upstream, f"upstream= of overlay {name!r}")
        naming.text(retire, f"retire= of overlay {name!r}")
        if not reason or not reason.strip():
            raise ConfigError(f"overlay {name!r} gives no reason; say in one sentence why it exists.")
        for option, names in (("after", after), ("before", before)):
            if isinstance(names, str):
                raise ConfigError(
                    f"overlay {name!r} has {option}={names!r}, a string; pass a list: {option}=[{names!r}]."
                )
            if not isinstance(names, Sequence):
                raise ConfigError(f"overlay {name!r} has {option}={names!r}; pass a list of names.")
            for other in names:
                if not isinstance(other, str):
                    raise ConfigError(
                        f"overlay {name!r} has {option}=[{other!r}]; overlays are given by name: "
                        f"{option}=[{getattr(other, 'name', 'the name')!r}]."
                    )
        _see_condition(when, whose=f"overlay {name!r}")
        if requires is not None and not isinstance(requires, Mapping):
            raise ConfigError(
                f"overlay {name!r} has requires={requires!r}; pass a mapping of packages to ranges: "
                f"requires={{'package': '>=1.0'}}."
            )
        ranges = {"vllm": vllm, "torch": torch, "torch_npu": torch_npu, **(requires or {})}
        self.name = name
        self.reason = reason
        self.upstream = upstream
        self.retire = retire
        self.upstream_marker = upstream_marker
        self.when = when
        self.after = tuple(after)
        self.before = tuple(before)
        self.default = default
        self.machinery = machinery
        self.ranges = {package: text for package, text in ranges.items() if text is not None}
        self.declared_in = sys._getframe(1).f_globals.get("__name__", "?")
        self._patches: list[Patch] = []
        self._see_late: Callable[[Patch], None] | None = None
        for package, text in self.ranges.items():
            if not isinstance(package, str) or not package.isidentifier():
                raise ConfigError(
                    f"overlay {name!r} requires {package!r}, which is not the name of a package that can be imported; "
                    f"for a distribution pass when=distribution({package!r}, {text!r})."
                )
            versions.specifier(text, whose=f"overlay {name!r} ({package})")
        if retire is not None:
            versions.requirement(retire, whose=f"overlay {name!r} (retire)")
        if upstream_marker is not None:
            with _declaring(name, "upstream_marker=", str(upstream_marker)):
                Target.parse(upstream_marker)

    @property
    def patches(self) -> tuple[Patch, ...]:
        """The patches, in the order of their declaration."""
        return tuple(self._patches)

    def watch(self, see_late: Callable[[Patch], None] | None) -> None:
        """Have each patch that is declared from now on shown to `see_late`, which may refuse it; None: no longer."""
        self._see_late = see_late

    def __repr__(self) -> str:
        return f"<Overlay {self.name}: {len(self._patches)} patches, declared in {self.declared_in}>"

    @overload
    def wrap(
        self,
        target: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> Callable[[_F], _F]: ...
    @overload
    def wrap(
        self,
        target: str,
        wrapper: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None: ...
    @_says_where
    def wrap(
        self,
        target: str,
        wrapper: str | None = None,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> Any:
        """Wrap the calls of `target`.

        Decorates ``wrapper(wrapped, instance, args, kwargs)``, or takes one as "module:function".

        For control paths: every call pays for the wrapper.
        """
        checked = naming.target_of("wrap", target)

        def add(function: Any) -> None:
            self._add(patches.Wrap(target=checked, wrapper=function, vllm=vllm, when=when, reason=reason))

        return self._declare(add, wrapper, "wrap", checked, f"the wrapper of {checked}")

    @overload
    def replace(
        self,
        target: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> Callable[[_F], _F]: ...
    @overload
    def replace(
        self,
        target: str,
        replacement: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None: ...
    @_says_where
    def replace(
        self,
        target: str,
        replacement: str | None = None,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> Any:
        """Replace a function, method or property; decorates the replacement, or takes "module:function".

        Its signature must take every call that the original takes; this is checked when it is applied.
        """
        checked = naming.target_of("replace", target)

        def add(function: Any) -> None:
            self._add(patches.Replace(target=checked, replacement=function, vllm=vllm, when=when, reason=reason))

        return self._declare(add, replacement, "replace", checked, f"what replaces {checked}")

    @_says_where
    def edit(
        self,
        target: str,
        *,
        find: str,
        put: str,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Put other statements in the place of some statements inside a function.

        Args:
            target: a function, method, property or cached_property, decorated or not.
            find: complete statements that follow each other, or one expression. They are compared as syntax, so that
                formatting, comments and quotes do not matter, and must be in the function exactly once.
            put: what takes their place; empty: nothing does. To insert lines, repeat what is found. Where an
                expression inside a statement is found, one expression.
            vllm: PEP 440 range of the vLLM releases that this patch is for.
            when: condition under which it applies.
            reason: why, where it differs from the overlay's reason.
        """
        for name, text in (("find", find), ("put", put)):
            if not isinstance(text, str):
                raise ConfigError(f"overlay {self.name!r} edits {target} with {name}={text!r}; pass source text.")
        self._add(patches.Edit(target=_checked(target), find=find, put=put, vllm=vllm, when=when, reason=reason))

    @_says_where
    def subclass(
        self,
        target: str,
        implementation: str | type,
        *,
        as_is: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Use the subclass `implementation` wherever the class `target` was used, subclasses of it included.

        What it overrides must be of the same kind and take the same calls, or more; as_is=True: whatever it is.
        """
        self._add(
            patches.Subclass(
                target=_checked(target),
                implementation=naming.class_of(implementation, f"what stands in for {target}"),
                as_is=as_is,
                vllm=vllm,
                when=when,
                reason=reason,
            )
        )

    @_says_where
    def model(
        self,
        architecture: str,
        implementation: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Serve the architecture name of config.json with the model class "module:Class"."""
        naming.word(architecture, "the name of a model architecture")
        implementation = naming.named(implementation, f"the model class of {architecture}")
        self._add(
            patches.Model(
                target=architecture,
                architecture=architecture,
                implementation=implementation,
                vllm=vllm,
                when=when,
                reason=reason,
            )
        )

    @_says_where
    def kernel(
        self,
        operator: str,
        implementation: str | Callable[..., Any],
        *,
        provider: str = "ascend",
        supports_args: str | Callable[..., bool] | None = None,
        inplace: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Provide the vllm.ir operator `operator`, before the platform's own providers, after those the user chose.

        Args:
            operator: name in vllm.ir.ops, such as "rms_norm".
            implementation: function with the operator's exact schema, or "module:function".
            provider: name of the provider.
            supports_args: function of the same arguments that tells whether they are supported, or "module:function".
            inplace: the implementation reuses the memory of its activation arguments.
        """
        naming.word(operator, "the name of an operator of vllm.ir")
        naming.word(provider, f"the name of the provider of {operator}")
        for patch in patches.kernel_patches(
            operator,
            naming.function_of(implementation, f"the implementation of {operator}"),
            provider=provider,
            supports_args=_function(supports_args, f"what tells whether {operator} takes its arguments"),
            inplace=inplace,
            vllm=vllm,
            when=when,
            reason=reason,
        ):
            self._add(patch)

    @_says_where
    def quantization(
        self,
        method: str,
        implementation: str | type,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Register the QuantizationConfig subclass `implementation` under the name of `--quantization`."""
        naming.word(method, "the name of a quantization method")
        self._add(
            patches.Quantization(
                target=method,
                method=method,
                implementation=naming.class_of(implementation, f"the configuration of {method}"),
                vllm=vllm,
                when=when,
                reason=reason,
            )
        )

    @_says_where
    def attention_backend(
        self,
        name: str,
        implementation: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Register the AttentionBackend subclass "module:Class" under the name of `--attention-backend`."""
        naming.word(name, "the name of an attention backend")
        implementation = naming.named(implementation, f"the attention backend {name}")
        self._add(
            patches.AttentionBackend(
                target=name, name=name, implementation=implementation, vllm=vllm, when=when, reason=reason
            )
        )

    @_says_where
    def module_alias(
        self,
        alias: str,
        module: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Serve ``import alias``, a module that this vLLM does not have, with `module`."""
        for name in (alias, module):
            naming.module(name)
        self._add(patches.ModuleAlias(target=alias, implementation=module, vllm=vllm, when=when, reason=reason))

    @_says_where
    def attribute(
        self,
        target: str,
        value: Any,
        *,
        as_is: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Set an attribute that exists, to a value of the type that it has; as_is=True: to any."""
        self._add(
            patches.SetAttribute(target=_checked(target), value=value, as_is=as_is, vllm=vllm, when=when, reason=reason)
        )

    @_says_where
    def add(
        self,
        target: str,
        value: Any,
        *,
        as_is: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Add an attribute that does not exist; as_is=True: even the text "module:Name" as a text."""
        self._add(
            patches.AddAttribute(target=_checked(target), value=value, as_is=as_is, vllm=vllm, when=when, reason=reason)
        )

    @_says_where
    def item(
        self,
        target: str,
        key: Any,
        value: Any,
        *,
        as_is: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Set the entry `key` of the mapping `target`; as_is=True: even to the text "module:Name"."""
        self._add(
            patches.SetItem(
                target=_checked(target), item=key, value=value, as_is=as_is, vllm=vllm, when=when, reason=reason
            )
        )

    @_says_where
    def entry(
        self,
        target: str,
        value: Any,
        *,
        before: Any = NOT_GIVEN,
        after: Any = NOT_GIVEN,
        position: int | None = None,
        as_is: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Enter `value` in the list, set, tuple, frozenset or deque `target`, or in a Literal that annotations use.

        What validates or offers choices by a Literal follows.

        Args:
            target: the container; a list, set or deque is changed in place.
            value: the entry, which must not be there yet.
            before: the entry that it goes before.
            after: the entry that it goes behind.
            position: its index; without any of the three it goes last.
            as_is: the text "module:Name" is meant as a text.
        """
        patch = patches.Entry(
            target=_checked(target),
            value=value,
            before=before,
            after=after,
            position=position,
            as_is=as_is,
            vllm=vllm,
            when=when,
            reason=reason,
        )
        self._add(patch)

    @_says_where
    def remove(
        self,
        target: str,
        *,
        key: Any = NOT_GIVEN,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Remove the attribute `target`, or its entry `key` where it is a mapping, list, set, tuple or the like."""
        self._add(patches.Remove(target=_checked(target), item=key, vllm=vllm, when=when, reason=reason))

    @overload
    def factory(
        self,
        target: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> Callable[[_F], _F]: ...
    @overload
    def factory(
        self,
        target: str,
        implementation: str,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None: ...
    @_says_where
    def factory(
        self,
        target: str,
        implementation: str | None = None,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> Any:
        """Let a function answer the calls of the class `target`; decorates it, or takes "module:function".

        The class stays what it is for isinstance, except, pickle and derived classes. Called by the function itself, it
        builds what it built before.
        """
        checked = naming.target_of("factory", target)

        def add(function: Any) -> None:
            self._add(patches.Factory(target=checked, implementation=function, vllm=vllm, when=when, reason=reason))

        return self._declare(add, implementation, "factory", checked, f"what builds {checked}")

    @_says_where
    def call(
        self,
        target: str,
        *,
        do: str | Callable[[], Any],
        undo: str | Callable[..., object] | None = None,
        irreversible: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Call `do` once the module of `target` is loaded, and `undo` when the overlay is taken back.

        Args:
            target: "package.module", or "package.module:name" for something in it that must exist.
            do: a function without arguments, or "module:function".
            undo: a function that takes what `do` returned, or nothing; or "module:function".
            irreversible: there is no undo, and that is known.
        """
        naming.see_call(target, undo, irreversible=irreversible)
        self._add(
            patches.Call(
                target=target,
                do=naming.function_of(do, f"what is done for {target}"),
                undo=_function(undo, f"the undo of the call for {target}"),
                irreversible=irreversible,
                vllm=vllm,
                when=when,
                reason=reason,
            )
        )

    @_says_where
    def field(
        self,
        target: str,
        *,
        default: Any = MISSING,
        default_factory: Any = MISSING,
        annotation: Any = MISSING,
        as_is: bool = False,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Change a field that a class declares, or add one: of a dataclass, a pydantic class, a TypedDict.

        Constructors of the class, of those derived from it and of those that embed it follow.

        Args:
            target: "package.module:Class.field".
            default: its default.
            default_factory: function that makes its default, or "module:function".
            annotation: its type; needed for a new field, which can only be passed by name.
            as_is: take the default as it is, whatever type the field has.
        """
        self._add(
            patches.Field(
                target=_checked(target),
                default=default,
                default_factory=default_factory
                if default_factory is MISSING
                else naming.function_of(default_factory, f"what makes the default of {target}"),
                annotation=annotation,
                as_is=as_is,
                vllm=vllm,
                when=when,
                reason=reason,
            )
        )

    @_says_where
    def member(
        self,
        target: str,
        value: Any,
        *,
        vllm: str | None = None,
        when: Condition | None = None,
        reason: str | None = None,
    ) -> None:
        """Add a member to an enumeration: "package.module:Enumeration.NAME"."""
        self._add(patches.Member(target=_checked(target), value=value, vllm=vllm, when=when, reason=reason))

    def _declare(
        self, add: Callable[[Any], None], implementation: str | None, kind: str, target: str, what: str
    ) -> Any:
        if implementation is not None:
            add(naming.function_of(implementation, what))
            return None

        def decorate(function: _F) -> _F:
            with _declaring(self.name, kind, target):
                add(naming.function_of(function, what))
            return function

        return decorate

    def _add(self, patch: Patch) -> None:
        whose = f"overlay {self.name!r}, patch of {patch.target}"
        if patch.vllm is not None:
            versions.specifier(patch.vllm, whose=whose)
        _see_condition(patch.when, whose=whose)
        naming.text(patch.reason, f"{whose}: reason=")
        if self._see_late is not None:
            self._see_late(patch)
        self._patches.append(patch)


def _see_condition(when: object, *, whose: str) -> None:
    if when is not None and not isinstance(when, Condition):
        raise ConfigError(
            f"{whose} has when={when!r}, which is not a condition; make one with role(), env(), distribution(), "
            f"platform() or predicate() of ascend_overlay.conditions."
        )
    if when is not None and when.wrong:
        raise ConfigError(f"{whose} has a condition that can never be asked: {when.wrong}")


def _checked(target: str) -> str:
    return str(Target.parse(target))


def _function(given: Any, what: str) -> Any:
    return None if given is None else naming.function_of(given, what)
