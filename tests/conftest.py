"""What all tests share: throw-away packages to patch, and an engine of the test's own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sharing import first, shared_by

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay import settings as settings_module
from ascend_overlay.engine import plugins as manager
from ascend_overlay.engine.engine import Engine
from ascend_overlay.hooks import hookimpl
from ascend_overlay.patches.classes import Subclass  # noqa: F401  (loads every kind before sys.modules is recorded)
from ascend_overlay.patches.proxies import OverlayWrapper  # noqa: F401

NO_OVERLAYS = "tests_no_overlays"

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_LOADED_BEFORE = "vllm" in sys.modules


def pytest_collection_finish(session: pytest.Session) -> None:
    """See that no test module imports vLLM by being collected: many tests put a vLLM of their own in its place."""
    if "vllm" in sys.modules and not _LOADED_BEFORE:
        raise pytest.UsageError("a test module imports vLLM at its top; import it inside a fixture or a test.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that import vLLM last: it stays, and many others put a vLLM of their own in its place."""
    items.sort(key=lambda item: item.get_closest_marker("vllm") is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests, give some files to one and the same: they share what is slow to make.

    Everywhere else a file is what stays together, which is what `--dist loadfile` asks for. What takes long is
    begun first.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFixtureOrFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return shared_by(file) or file

        def _assign_work_unit(self, node: Any) -> None:
            self.workqueue.move_to_end(first(self.workqueue), last=False)
            super()._assign_work_unit(node)

    return ByFixtureOrFile(config, log)


class Site:
    """A folder on sys.path that a test fills with packages and distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, files: dict[str, str]) -> None:
        """Write Python files; missing `__init__.py` files are made."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for parent in path.relative_to(self.folder).parents:
                if parent.name:
                    (self.folder / parent / "__init__.py").touch()
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        importlib.invalidate_caches()

    def distribution(self, name: str, version: str, plugins: dict[str, str] | None = None) -> None:
        """Pretend that the distribution is installed here, with entry points for plugins."""
        folder = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{key} = {value}" for key, value in (plugins or {}).items()]
        (folder / "entry_points.txt").write_text("\n".join(["[ascend_overlay.plugins]", *lines, ""]))
        importlib.invalidate_caches()

    def vllm(self, version: str, files: dict[str, str] | None = None) -> None:
        """Put a package called vllm, of the given release, before the real one."""
        self.write(
            {
                "vllm/__init__.py": "from vllm._version import __version__\n",
                "vllm/_version.py": f"__version__ = version = {version!r}\n",
                **(files or {}),
            }
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty folder, first on sys.path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return Site(folder)


@pytest.fixture(scope="module", autouse=True)
def notes_of_earlier_files() -> None:
    """Forget the notes of the process: which files share one is chance where the tests run in several processes."""
    api._engine._state.notes.clear()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """The engine of this test behind the public functions, without the built-in overlays.

    Afterwards everything is disabled, and the process must be as it was.
    """
    plugin = ModuleType(NO_OVERLAYS)
    plugin.ascend_overlay_overlays = hookimpl(_nothing)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NO_OVERLAYS, plugin)
    monkeypatch.setattr(manager, "BUILT_IN", NO_OVERLAYS)
    # The first use of wrapt's import hooks adds its one finder to sys.meta_path for good.
    import wrapt

    wrapt.register_post_import_hook(lambda module: None, "a_module_that_nobody_imports")
    fresh = Engine()
    monkeypatch.setattr(api, "_engine", fresh)
    modules, finders = set(sys.modules), list(sys.meta_path)
    yield fresh
    ascend_overlay.disable(force=True)
    # The genuine vLLM stays, and so does what a torch that was there before imported: neither can be imported twice.
    genuine = request.node.get_closest_marker("vllm") is not None
    for name in set(sys.modules) - modules:
        if name.startswith("torch.") and "torch" in modules:
            continue
        if not genuine or str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    assert settings_module.in_force() is None
    assert list(fresh._patcher.slots) == []
    new = [finder for finder in sys.meta_path if finder not in finders]
    assert [finder for finder in new if not (genuine and type(finder).__module__.startswith("vllm."))] == []
    assert not fresh._propagation.active


class Snapshot:
    """What a namespace holds, kept where re-binding does not reach: in the attributes of a live object."""

    def __init__(self, *namespaces: Any) -> None:
        self._namespaces = [SimpleNamespace(**vars(namespace)) for namespace in namespaces]

    def assert_same(self, *namespaces: Any) -> None:
        """See that each namespace has the same names with the very same objects."""
        for before, after in zip(self._namespaces, namespaces, strict=True):
            assert vars(before).keys() == vars(after).keys(), after
            for name, value in vars(before).items():
                assert vars(after)[name] is value, (after, name)


@pytest.fixture
def snapshot() -> type[Snapshot]:
    """See Snapshot."""
    return Snapshot


def _nothing() -> list[Overlay]:
    return []


def plugin_of(*overlays: Overlay, **hooks: Callable[..., Any]) -> SimpleNamespace:
    """Return a plugin object that contributes `overlays` and implements `hooks` (names without the prefix)."""

    def ascend_overlay_overlays() -> Iterable[Overlay]:
        return overlays

    functions = {"ascend_overlay_overlays": hookimpl(ascend_overlay_overlays)}
    for name, function in hooks.items():
        functions[f"ascend_overlay_{name}"] = hookimpl(function)
    return SimpleNamespace(**functions)


@pytest.fixture
def offer(engine: Engine) -> Callable[..., Any]:
    """Register overlays, and hooks by their short names, as one plugin; returns the plugin."""
    count = 0

    def register(*overlays: Overlay, name: str | None = None, **hooks: Callable[..., Any]) -> Any:
        nonlocal count
        count += 1
        plugin = plugin_of(*overlays, **hooks)
        ascend_overlay.register(plugin, name or f"plugin{count}")
        return plugin

    return register


class Python:
    """Runs the interpreter of the tests in a clean environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The last is what `verify` sets, where a test has run it in this process.
        others = ("ASCEND_OVERLAY", "PYTHON", "VLLM_TARGET_DEVICE")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        # Where this process found the package, which is not always an installed one.
        package = Path(ascend_overlay.__file__).parent.parent
        self.search = [str(folder), *([str(package)] if str(package) in sys.path else [])]

    def __call__(
        self, *arguments: str, env: dict[str, str] | None = None, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python *arguments``; ASCEND_OVERLAY variables come from `env` only."""
        environment = self.environment | {"PYTHONPATH": os.pathsep.join(self.search)} | (env or {})
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def script(self, text: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a script from a file, as multiprocessing needs it."""
        path = self.folder / "script_under_test.py"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return self(str(path), **options)

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command ascend-overlay."""
        start = "import sys; from ascend_overlay.commands.cli import main; main(prog_name='ascend-overlay')"
        return self("-c", start, *arguments, **options)


@pytest.fixture
def python(site: Site) -> Python:
    """Run Python in a process of its own, with the throw-away packages importable."""
    return Python(site.folder)
