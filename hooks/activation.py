"""The ways in. All of them end in `start`, which is enable() with the settings of the environment.

Runs in every Python process of an activated environment, so nothing is imported here until vLLM is.
"""

import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_TRIGGER = "vllm"


class _Trigger:
    """A finder that finds what the others find: to import vLLM starts the overlays, to look for it does not."""

    def __init__(self) -> None:
        self._asking: set[int] = set()

    def find_spec(
        self, fullname: "str", path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        # Another finder may ask all finders in its turn.
        if fullname != _TRIGGER or _thread.get_ident() in self._asking:
            return None
        from ascend_overlay.finders import ask_others

        self._asking.add(_thread.get_ident())
        try:
            spec = ask_others(self, fullname, path, target)
        finally:
            self._asking.discard(_thread.get_ident())
        # Programs ask for a vLLM that is not there, and take no for an answer.
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Starter(spec.loader, path, target)  # type: ignore[assignment]
        return spec


class _Starter:
    """The loader of vLLM: starts the overlays before there is a module, then leaves it to the loader that it has."""

    def __init__(self, loader: "Any", path: "Sequence[str] | None", target: "ModuleType | None") -> None:
        self._loader, self._path, self._target = loader, path, target

    def __getattr__(self, name: "str") -> "Any":
        # One that is being copied has no attributes yet.
        if name == "_loader":
            raise AttributeError(name)
        return getattr(self._loader, name)

    def load_module(self, fullname: "str") -> "ModuleType":
        # The old way of importing, by pkgutil and others: Python would have the loader do it that this one hides.
        if fullname in sys.modules:
            return self._loader.load_module(fullname)  # type: ignore[no-any-return]
        self._start()
        return __import__(fullname)

    def _start(self) -> None:
        disarm()
        try:
            start()
        except BaseException:
            # Whoever catches this and imports vLLM again must not get it without overlays.
            arm()
            raise

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        from ascend_overlay.finders import ask_others

        self._start()
        # The overlays may wait for this very module.
        if (found := ask_others(_trigger, spec.name, self._path, self._target)) is not None:
            self._loader = found.loader
        create = getattr(self._loader, "create_module", None)
        return create(spec) if create is not None else None

    def exec_module(self, module: "ModuleType") -> None:
        # What reads a module's source or data by its loader must find the one that it knows.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)


class _Raiser:
    """A finder that raises an error at the next import of a module of vLLM's."""

    def __init__(self, error: "Exception") -> None:
        self._error = error

    def find_spec(
        self, fullname: "str", path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> None:
        if fullname.partition(".")[0] == _TRIGGER:
            raise self._error


_trigger = _Trigger()


def arm() -> None:
    """Start the overlays when vLLM is first imported, or now where it is already."""
    if _TRIGGER in sys.modules:
        start()
    elif _trigger not in sys.meta_path:
        sys.meta_path.insert(0, _trigger)


def disarm() -> None:
    """Take the finder out again."""
    if _trigger in sys.meta_path:
        sys.meta_path.remove(_trigger)


def start() -> None:
    """Enable what the environment asks for; nothing where it asks for nothing."""
    from ascend_overlay.settings import declined, requested

    if requested() or (_owed and declined()):
        from ascend_overlay import api

        try:
            if (declined() or api.enable_from_environment()) and _owed:
                api.prove(_owed)
                _owed.clear()
        except Exception as error:
            tell(str(error))
            _show_as_sentence(error)
            raise


def _show_as_sentence(error: "Exception") -> None:
    """Have an error on what options of `ascend-overlay run` ask for end the program as a sentence, with status 2.

    Whoever catches it goes on, and a Python that somebody types into shows it as any other.
    """
    from ascend_overlay.errors import ConfigError, OverlayError
    from ascend_overlay.settings import by_options

    if not isinstance(error, OverlayError) or not (error.is_usage or isinstance(error, ConfigError)):
        return
    if not by_options():
        return
    before = sys.excepthook

    def show(kind: "type[BaseException]", raised: "BaseException", trace: "Any") -> None:
        if raised is not error or hasattr(sys, "ps1"):
            before(kind, raised, trace)
            return
        sys.excepthook = before
        sys.stderr.write(f"Error: {raised}\n")
        raise SystemExit(2)

    sys.excepthook = show


_said: "list[str]" = []
_owed: "dict[str, Any]" = {}
_words: "list[Any]" = []


def expect(owed: "dict[str, Any]", word: "Any" = None) -> None:
    """Have it seen, once the overlays are enabled, that this process lacks nothing of what it is owed.

    Args:
        owed: what it is to have.
        word: the connection by which the process that started it is told where that is not so.
    """
    _owed.update(owed)
    if word is not None:
        _words[:] = [word]


def tell(text: "str") -> None:
    """Tell the process that started this one why this one ends, where it listens."""
    for word in _words:
        import contextlib

        # Nobody may listen any more; and more than a pipe holds would wait for a reader.
        with contextlib.suppress(OSError):
            word.send_bytes(text.encode("utf-8", "replace")[:8000])


def vllm_plugin() -> None:
    """vLLM's general plugin: the safety net for a process that no other way reached. Inert unless asked for."""
    start()
    _see_what_is_required()
    _tell_what_is_off()


def _see_what_is_required() -> None:
    """Refuse a vLLM whose environment requires overlays, but does not ask for any: it would run without them.

    Raises:
        ConfigError: it does, and the program has not enabled any, either.
    """
    if not os.environ.get("ASCEND_OVERLAY_REQUIRE"):
        return
    from ascend_overlay import settings

    if settings.requested() or settings.declined() or settings.in_force() is not None:
        return
    # One that has no name in it is refused as such, where somebody asks for overlays.
    if names := ", ".join(settings.required()):
        from ascend_overlay.errors import ConfigError

        raise ConfigError(
            f"ASCEND_OVERLAY_REQUIRE requires {names}, and ASCEND_OVERLAY is not set: vLLM would run without overlays. "
            f"Set ASCEND_OVERLAY=1, start it with `ascend-overlay run`, or unset ASCEND_OVERLAY_REQUIRE; "
            f"ASCEND_OVERLAY=0 says that there are to be none."
        )


def _tell_what_is_off() -> None:
    """Say once, where the program started, that overlays are switched off which the same environment requires."""
    if os.environ.get("ASCEND_OVERLAY_REQUIRE") and not _said:
        from ascend_overlay import process, settings

        if settings.declined() and settings.in_force() is None and process.role() == "main":
            import logging

            off = f"ASCEND_OVERLAY={os.environ['ASCEND_OVERLAY']} switches the overlays off: vLLM runs without them."
            # A child of vLLM's logger, so that it is shown where and how vLLM's own messages are.
            _said.append(off)
            logging.getLogger("vllm.ascend_overlay").warning("%s%s", off, settings.not_in_force(settings.required()))


def arm_asked_for() -> None:
    """Arm what the environment asks for: the overlays, a software NPU, or both."""
    arm_software_npu()
    if _asks("ASCEND_OVERLAY"):
        arm()


def _asks(variable: "str") -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no", "off")


def arm_software_npu() -> None:
    """Have a software NPU in this process where the environment asks for one (ASCEND_OVERLAY_NPU=software)."""
    if _asks("ASCEND_OVERLAY_NPU"):
        from ascend_overlay.npu.software import arrival

        arrival.arm()


def torch_backend() -> None:
    """Torch's backend: the way into a process that reads no PYTHONPATH, or in which another sitecustomize comes first.

    vLLM imports torch before anything that is patched. Inert unless asked for.
    """
    try:
        arm_asked_for()
    except Exception as error:
        # Torch would say how to do without this way in. It is raised where vLLM goes on with its imports.
        if _TRIGGER not in sys.modules:
            raise
        sys.meta_path.insert(0, _Raiser(error))
