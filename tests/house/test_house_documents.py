"""What the documents and the checks before a commit say of the repository is so."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from imports import CHECKOUT, installed_files

from ascend_overlay import settings

DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md"), *(CHECKOUT / "examples").rglob("*.md")])
FOLDERS = ("ascend_overlay", "benchmarks", "docs", "examples", "hooks", "overlays", "tests")
_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w/?|(?<![\w/.-])\.ci/\w+")
_NAMED = re.compile(r"`(?P<name>[A-Za-z_][\w.]*)` (?:in|of)\s+`(?P<path>[\w/]+\.py)`")
_MODULE = re.compile(r"(?<![\w.])ascend_overlay(?:\.\w+)+")
ENTRY_POINTS = "ascend_overlay.plugins"
FILES = installed_files()
PAGES = [CHECKOUT / "docs" / "architecture.md", CHECKOUT / "CONTRIBUTING.md"]


def _id(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_the_paths_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    places = {match[0]: text[: match.start()].count("\n") + 1 for match in _PATH.finditer(text)}
    missing = [f"{_id(document)}:{line}: {path}" for path, line in places.items() if not _exists(document, path)]
    assert not missing, "\n".join(["there is no", *missing])


def _exists(document: Path, path: str) -> bool:
    # A folder without a slash may be a package or a module; an example speaks of what is in it.
    return any((base / f"{path}{end}").exists() for base in (CHECKOUT, document.parent) for end in ("", ".py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_the_modules_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    places = {match[0]: text[: match.start()].count("\n") + 1 for match in _MODULE.finditer(text)}
    missing = [f"{_id(document)}:{line}: {name}" for name, line in places.items() if not _is_known(name)]
    assert not missing, "\n".join(["there is no", *missing])


def _is_known(name: str) -> bool:
    """Tell whether each part of a dotted name is a module of the package before it, or a name that its source has."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        package, part = FILES[".".join(parts[:depth])], parts[depth]
        if ".".join(parts[: depth + 1]) not in FILES:
            return part.isupper() or name == ENTRY_POINTS or bool(re.search(rf"\b{part}\b", package.text))
    return True


@pytest.mark.parametrize("document", PAGES, ids=_id)
def test_the_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]*)(?:#[\w-]+)?\)", document.read_text(encoding="utf-8")):
        assert not link or (document.parent / link).exists(), f"{_id(document)} links to {link}, which is not there"


def test_the_names_of_the_walk_exist() -> None:
    named = _NAMED.findall(PAGES[0].read_text(encoding="utf-8"))
    assert len(named) >= 8
    missing = [f"{name} in {path}" for name, path in named if name not in _definitions(CHECKOUT / path)]
    assert not missing, f"docs/architecture.md names {missing}, which are not there"


def _definitions(path: Path) -> set[str]:
    """Return the functions, classes, methods and constants that a file defines."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


def test_what_runs_before_a_commit_is_what_ci_checks() -> None:
    setup = configparser.RawConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    commands = setup["testenv:tests"]["commands"].strip().splitlines()
    checks = [command for command in commands if not command.startswith("pytest ")]
    config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert [hook["entry"] for hook in hooks] == checks
    assert all(repository["repo"] == "local" for repository in config["repos"])
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in hooks)


def test_the_groups_of_tests_are_those_of_ci() -> None:
    setup = configparser.RawConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    groups = [line for line in setup["testenv:tests"]["commands"].strip().splitlines() if line.startswith("pytest ")]
    page = PAGES[1].read_text(encoding="utf-8")
    assert groups and all(f"`{group}`" in page for group in groups)


def test_no_two_files_of_tests_have_one_name() -> None:
    """They are imported by it; which of them alone is collected depends on what else is."""
    names = [path.name for path in (CHECKOUT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


VARIABLE = re.compile(r"ASCEND_OVERLAY_[A-Z_]*[A-Z]")
MISSPELT = {"ASCEND_OVERLAY_STRIKT"}


def test_every_variable_that_is_named_anywhere_means_something() -> None:
    """An error that advises a variable which does not exist helps nobody, and one that is not known is refused."""
    named: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".c", ".cpp", ".h"):
                for name in VARIABLE.findall(path.read_text(encoding="utf-8")):
                    named.setdefault(name, set()).add(str(path.relative_to(CHECKOUT)))
    assert {name: where for name, where in named.items() if name not in {*settings.VARIABLES, *MISSPELT}} == {}
    assert set(settings.VARIABLES) - named.keys() - {"ASCEND_OVERLAY"} == set()


def test_every_setting_has_its_variable() -> None:
    fields = {field.name for field in dataclasses.fields(settings.Settings)} - {"given_by"}
    assert set(settings._VARIABLES) == fields
    values = {"strict": False, "trace": True, "fused_qkv": True, "fused_quant": False, "graph_wait": False}
    values |= {"fused_experts": True, "lock": "/x.lock", "drift": "warn", "vllm_release": "0.32.0"}
    values |= {"weight_nz": "all", "foreign": "error", "ledger": "/x", "prefer": {"a:b": "c"}, "plugins": ("p",)}
    for name in fields:
        given = settings.Settings(**{name: values.get(name, ("x",))})  # type: ignore[arg-type]
        assert settings._VARIABLES[name] in given.to_env(), name
        assert settings.Settings.from_env(given.to_env()) == given, name
