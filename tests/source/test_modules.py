"""Modules are found as an import would find them, and nothing is imported."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, finders
from ascend_overlay.errors import TargetError
from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import HERE, Environment, Missing, Tree, exists, locate, remembered, source_of

FILES = {"pack/one.py": "", "pack/inner/two.py": "", "pack/both.py": "", "pack/both/three.py": "raise SystemExit\n"}


@pytest.fixture
def pack(site: Any) -> Path:
    """A package with modules, a package in it, a namespace and what is no Python source."""
    site.write(FILES)
    folder = Path(site.folder) / "pack"
    (folder / "space").mkdir()
    (folder / "space" / "four.py").touch()
    (folder / f"compiled{importlib.machinery.EXTENSION_SUFFIXES[0]}").touch()
    (folder / f"sped{importlib.machinery.EXTENSION_SUFFIXES[0]}").touch()
    (folder / "sped.py").touch()
    (folder / "bare.pyc").touch()
    (folder / "data").mkdir()
    return folder


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("pack", "__init__.py"),
        ("pack.one", "one.py"),
        ("pack.inner", "inner/__init__.py"),
        ("pack.inner.two", "inner/two.py"),
        ("pack.both", "both/__init__.py"),
        ("pack.both.three", "both/three.py"),
        ("pack.space", None),
        ("pack.space.four", "space/four.py"),
        ("pack.compiled", None),
        ("pack.sped", None),
        ("pack.bare", None),
        ("pack.data", None),
    ],
)
def test_what_is_there_is_found(pack: Path, module: str, file: str | None) -> None:
    locate(module)
    assert exists(module)
    assert source_of(module) == (None if file is None else str(pack / file))
    tree = Tree(pack, "pack")
    assert source_of(module, tree) == source_of(module)
    assert exists(module, tree)
    assert not any(name.partition(".")[0] == "pack" for name in sys.modules)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("pakc.one", "the module 'pakc.one' does not exist here: the package 'pakc' is not installed."),
        (
            "pack.on",
            (
                "the module 'pack.on' does not exist: 'pack' has no such module. "
                "Did you mean 'pack.one' or 'pack.both' or 'pack.inner'?"
            ),
        ),
        (
            "pack.iner.two",
            (
                "the module 'pack.iner.two' does not exist: 'pack' has no such module. "
                "Did you mean 'pack.inner' or 'pack.one' or 'pack.sped'?"
            ),
        ),
        ("pack.one.two", "the module 'pack.one.two' does not exist: 'pack.one' has no such module."),
        (
            "pack.both.one",
            (
                "the module 'pack.both.one' does not exist: 'pack.both' has no such module. "
                "Did you mean 'pack.both.three'?"
            ),
        ),
    ],
)
def test_what_is_not_there_is_a_sentence(pack: Path, module: str, sentence: str) -> None:
    assert not exists(module)
    assert source_of(module) is None
    with pytest.raises(TargetError) as caught:
        locate(module)
    assert str(caught.value) == sentence
    with pytest.raises(TargetError) as caught:
        locate(module, Tree(pack, "pack"))
    assert str(caught.value) == sentence


def test_every_module_of_the_standard_library_is_found_as_an_import_would_find_it() -> None:
    """Top-level names: looking for them imports nothing in importlib either."""
    wrong = []
    for name in sorted(sys.stdlib_module_names - set(sys.modules)):
        spec = importlib.machinery.PathFinder.find_spec(name) or importlib.util.find_spec(name)
        origin = spec.origin if spec is not None and str(spec.origin).endswith(".py") else None
        if exists(name) != (spec is not None) or source_of(name) not in (origin, None):
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("package", ["json", "email", "asyncio", "pytest", "_pytest", "hypothesis"])
def test_every_module_of_a_package_is_found_as_an_import_would_find_it(package: str) -> None:
    """The import system's own finder of files is asked about every name in every folder."""
    home = Path(str(importlib.import_module(package).__file__)).parent
    tree = Tree(home, package)
    asked = 0
    for folder in [home, *(path for path in home.rglob("*") if path.is_dir())]:
        parts = folder.relative_to(home).parts
        finder = importlib.machinery.FileFinder(
            str(folder),
            (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
            (importlib.machinery.SourceFileLoader, [".py"]),
            (importlib.machinery.SourcelessFileLoader, [".pyc"]),
        )
        for tail in {entry.name.partition(".")[0] for entry in os.scandir(folder)} - {"__init__"}:
            name = ".".join([package, *parts, tail])
            spec = finder.find_spec(name)
            found = tree.find(name)
            assert isinstance(found, Found) == (spec is not None), name
            if spec is not None and spec.has_location:
                assert isinstance(found, Found) and found.file == (
                    spec.origin if str(spec.origin)[-3:] == ".py" else None
                )
            asked += 1
    assert asked > 3


def test_a_module_in_an_archive_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "library.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("pack/__init__.py", "")
        file.writestr("pack/one.py", "")
    monkeypatch.syspath_prepend(str(archive))
    assert exists("pack.one")
    with pytest.raises(TargetError, match=r"Did you mean 'pack\.one'"):
        locate("pack.on")
    assert "pack" not in sys.modules


def test_the_first_of_two_folders_wins_and_namespaces_have_parts_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("b", "a"):
        (tmp_path / folder / "pack").mkdir(parents=True)
        (tmp_path / folder / "pack" / f"only_{folder}.py").touch()
        (tmp_path / folder / "pack" / "same.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    assert source_of("pack.only_a") == str(tmp_path / "a" / "pack" / "only_a.py")
    assert source_of("pack.only_b") == str(tmp_path / "b" / "pack" / "only_b.py")
    assert source_of("pack.same") == str(tmp_path / "a" / "pack" / "same.py")


def test_a_loaded_module_needs_no_package_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pack.made", types.ModuleType("pack.made"))
    assert HERE.find("pack.made") == Found(None, None)
    assert not exists("pack")
    assert not exists("pack.made.more")


def test_a_loaded_module_that_answers_everything_is_no_package(site: Any) -> None:
    site.write({"pack/lazy.py": "def __getattr__(name): return ('anything',)\n"})
    importlib.import_module("pack.lazy")
    assert HERE.find("pack.lazy") == Found(str(site.folder / "pack" / "lazy.py"), None)
    assert not exists("pack.lazy.more")


def test_a_module_whose_import_is_blocked_is_said_to_be(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pack.inner", None)
    for module in ("pack.inner", "pack.inner.two"):
        assert not exists(module)
        with pytest.raises(TargetError, match=r"cannot be imported here: sys.modules has None for 'pack\.inner'\.$"):
            locate(module)


class Stranger:
    """A finder of somebody's; it may be any object."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if self.error is not None:
            raise self.error
        return importlib.machinery.ModuleSpec(name, None) if name == "pack" else None


def test_what_a_strangers_finder_serves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Stranger()])
    for environment in (HERE, Environment(aliases=True)):
        assert environment.find("pack") == Found(None, None)


def test_a_strangers_finder_that_fails_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Stranger(ValueError("no")), Stranger()])
    assert HERE.find("pack") == Found(None, None)
    assert isinstance(HERE.find("other"), Missing)


def test_only_who_asks_for_aliases_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stranger, "__module__", "ascend_overlay.patches.aliases")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Stranger()])
    assert isinstance(HERE.find("pack"), Missing)
    assert Environment(aliases=True).find("pack") == Found(None, None)


@pytest.mark.parametrize("module", ["pack", "pack.one"])
@pytest.mark.parametrize(
    "made_by", ["__editable___pack_1_0_finder", "_pack_editable_loader", "_pack_editable", "editables.redirector"]
)
def test_what_an_editable_install_maps_is_found(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, made_by: str
) -> None:
    """Of setuptools, meson-python, scikit-build-core, hatchling; the finder may be a class or an instance."""
    home = tmp_path / "elsewhere"
    shutil.move(pack, home)

    class Editable:
        __module__ = made_by

        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
            file = home / ("__init__.py" if name == "pack" else "one.py")
            places = [str(home)] if name == "pack" else None
            if name not in ("pack", "pack.one"):
                return None
            return importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)

    assert not exists(module)
    finder = Editable if made_by.startswith("__") else Editable()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    assert finders.find(module) is not None
    assert source_of(module) == str(home / ("__init__.py" if module == "pack" else "one.py"))


def test_asking_everybody_imports_no_package_of_a_module_with_a_hook(pack: Path) -> None:
    import wrapt

    wrapt.register_post_import_hook(lambda module: None, "pack.inner.gone")
    assert isinstance(Environment(aliases=True).find("pack.inner.gone"), Missing)
    assert "pack" not in sys.modules


def test_what_appears_is_seen_at_once_and_while_all_is_remembered_not_before_the_end(pack: Path) -> None:
    with remembered():
        assert not exists("pack.late")
        (pack / "late.py").touch()
        assert not exists("pack.late")
        with remembered():
            assert not exists("pack.late")
        assert not exists("pack.late")
    assert exists("pack.late")


def test_each_folder_is_listed_once(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(str(folder)) or scandir(folder))
    with remembered():
        for module in ("pack.one", "pack.inner.two", "pack.both.three", "pack.one", "pack.inner.two"):
            locate(module)
    assert sorted(listed) == [str(pack), str(pack / "both"), str(pack / "inner")]


def test_a_folder_with_the_name_of_a_file_is_none(pack: Path) -> None:
    (pack / "folder.py").mkdir()
    assert not exists("pack.folder")


def test_a_tree_tells_what_it_has(pack: Path) -> None:
    (pack / "not-a-name.py").touch()
    assert Tree(pack, "pack").modules() == [
        "pack",
        "pack.both",
        "pack.both.three",
        "pack.inner",
        "pack.inner.two",
        "pack.one",
        "pack.space.four",
        "pack.sped",
    ]
    assert not exists("other", Tree(pack, "pack"))


def test_the_engine_lists_each_folder_once(pack: Path, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = Overlay("several", reason="a test")
    for module in ("pack.one", "pack.inner.two", "pack.both.three", "pack.sped"):
        overlay.wrap(f"{module}:function")(lambda wrapped, instance, args, kwargs: None)
    offer(overlay)
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(str(folder)) or scandir(folder))
    ascend_overlay.enable()
    assert sorted(listed) == [str(pack), str(pack / "both"), str(pack / "inner")]
