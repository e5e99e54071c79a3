"""Archives: whole, broken and hostile ones. Nothing is executed, nothing is left half written."""

from __future__ import annotations

import gzip
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from releases_kit import PACKAGE, link, sdist, tar, wheel, zipped

from ascend_overlay.errors import ReleaseError
from ascend_overlay.releases import archives, limits

TOP = "vllm-0.33.0"
GOOD = {f"{TOP}/vllm/__init__.py": "", f"{TOP}/PKG-INFO": "Name: vllm\nVersion: 0.33.0\n"}


def refused(path: Path) -> str:
    """Return the sentence with which an archive is refused."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(ReleaseError) as raised:
        archives.read(path, "vllm")
    assert sorted(path.parent.rglob("*")) == before
    sentence = str(raised.value)
    assert "\n" not in sentence and sentence.endswith(".") and path.name in sentence
    return sentence


def test_only_the_python_files_of_the_package_are_read(tmp_path: Path) -> None:
    texts = GOOD | {
        f"{TOP}/tests/vllm/__init__.py": "no",
        f"{TOP}/vllm/kernel.cu": "no",
        f"{TOP}/vllm/vllm/x.py": "yes",
    }
    found = archives.read(tar(tmp_path / "vllm-0.33.0.tar.gz", texts), "vllm")
    assert found == archives.Contents("vllm", "0.33.0", {"__init__.py": b"", "vllm/x.py": b"yes"})


def test_a_package_in_src_and_names_that_begin_with_a_dot(tmp_path: Path) -> None:
    assert archives.read(sdist(tmp_path, inside="src/"), "vllm").files.keys() == PACKAGE.keys()
    dotted = tar(tmp_path / "vllm-1.tar.gz", {f"./{name}": text for name, text in GOOD.items()})
    assert archives.read(dotted, "vllm").version == "0.33.0"


def test_a_zipped_source_distribution_without_metadata_has_the_version_of_its_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "vllm-0.31.0.zip", {"vllm-0.31.0/vllm/__init__.py": "x"})
    assert archives.read(path, "vllm") == archives.Contents("", "0.31.0", {"__init__.py": b"x"})


@pytest.mark.parametrize(
    "name",
    [
        "../outside.py",
        "/etc/outside.py",
        f"{TOP}/vllm/../../outside.py",
        f"{TOP}/vllm/..",
        "C:/outside.py",
        f"{TOP}\\vllm\\x.py",
        "../notes.txt",
    ],
)
@pytest.mark.parametrize("write", [tar, zipped])
def test_names_that_lead_out(tmp_path: Path, name: str, write: object) -> None:
    suffix = ".tar.gz" if write is tar else ".zip"
    path = write(tmp_path / f"{TOP}{suffix}", {**GOOD, name: "out"})  # type: ignore[operator]
    assert "would lie outside of the folder" in refused(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_the_package(tmp_path: Path, kind: bytes) -> None:
    path = tar(tmp_path / f"{TOP}.tar.gz", GOOD, link(f"{TOP}/vllm/x.py", "/etc/passwd", kind))
    assert "which no package that is built has" in refused(path)


def test_links_elsewhere_are_left_out_and_none_is_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    extra = [link(f"{TOP}/docs", "/etc"), link(f"{TOP}/vllm/engine", str(tmp_path / "victim"))]
    path = tar(tmp_path / f"{TOP}.tar.gz", GOOD, *extra)
    assert archives.read(path, "vllm").files == {"__init__.py": b""}
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    path = wheel(tmp_path, "0.33.0")
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("vllm/x.py")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "is a link" in refused(path)


def test_bombs(tmp_path: Path) -> None:
    bomb = {"vllm/__init__.py": "", "vllm/bomb.py": " " * (15 * 1024**2)}
    assert "a bomb" in refused(zipped(tmp_path / "vllm-1-py3-none-any.whl", bomb))
    assert "a bomb" in refused(tar(tmp_path / "vllm-1.tar.gz", {"vllm-1/readme": " " * (60 * 1024**2), **GOOD}))


def test_a_large_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILE", 10**6)
    noise = random.Random(1).randbytes(limits.FILE // 2 + 1).hex()
    large = {"vllm/__init__.py": "", "vllm/large.py": noise}
    assert "'vllm/large.py' has 1 MB" in refused(zipped(tmp_path / "vllm-1-py3-none-any.whl", large))
    assert "'vllm-1/vllm/large.py' has 1 MB" in refused(
        tar(tmp_path / "vllm-1.tar.gz", {f"vllm-1/{name}": text for name, text in large.items()})
    )


@pytest.mark.parametrize("lie", [30_000, 50_000])
def test_a_size_that_is_a_lie(tmp_path: Path, lie: int) -> None:
    path = zipped(tmp_path / "vllm-1-py3-none-any.whl", {"vllm/__init__.py": "x" * 40_000})
    data = path.read_bytes()
    # The size in the list of contents, at the end.
    told = (40_000).to_bytes(4, "little")
    at = data.rindex(told)
    path.write_bytes(data[:at] + lie.to_bytes(4, "little") + data[at + 4 :])
    assert "broken" in refused(path) or "another size" in refused(path)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRIES", 50)
    assert "more than 50 files" in refused(tar(tmp_path / "vllm-1.tar.gz", {f"vllm-1/{n}": "" for n in range(60)}))
    monkeypatch.setattr(limits, "FILES", 3)
    files = {f"vllm/{n}.py": "" for n in range(5)}
    assert "more source than a package can have" in refused(zipped(tmp_path / "vllm-1-py3-none-any.whl", files))


def test_a_file_that_is_in_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "vllm-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("vllm-1/vllm/__init__.py"))
    assert "is in it twice" in refused(path)


def test_another_package(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "torch-2-py3-none-any.whl",
        {
            "torch/__init__.py": "",
            "torch-2.dist-info/METADATA": "Name: torch\nVersion: 2\n",
            "torch/myvllm/__init__.py": "",
        },
    )
    assert "it is of torch and has no package 'vllm'" in refused(path)


@pytest.mark.parametrize("name", ["vllm-0.33.0.tar.gz", "vllm-0.33.0-py3-none-any.whl", "vllm-0.33.0.zip"])
@pytest.mark.parametrize(
    "data", [b"", b"no archive", b"\x1f\x8b", gzip.compress(b"no archive", mtime=0), b"PK\x03\x04" * 9]
)
def test_no_archive(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert "broken, or no wheel and no source distribution" in refused(tmp_path / name)


def test_an_archive_that_is_cut_off_is_never_taken_for_whole(tmp_path: Path) -> None:
    for whole in (sdist(tmp_path), wheel(tmp_path, "0.33.0")):
        data = whole.read_bytes()
        for count in (1, 9, len(data) // 2, len(data) - 30):
            whole.write_bytes(data[:-count])
            refused(whole)


def test_what_tarfile_takes_for_the_end(tmp_path: Path) -> None:
    """An entry whose header is broken ends the archive for tarfile, without a word."""
    path = sdist(tmp_path)
    data = bytearray(gzip.decompress(path.read_bytes()))
    at = data.index(b"vllm-0.33.0/vllm/engine/llm.py")
    data[at + 148 : at + 156] = b"9999999\0"
    path.write_bytes(gzip.compress(bytes(data)))
    assert "goes on behind its end" in refused(path) or "broken" in refused(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), zipped_one=st.booleans())
def test_one_byte_changed(tmp_path: Path, at: float, value: int, zipped_one: bool) -> None:
    """Either the files are what they were, or it is refused with a sentence."""
    path = wheel(tmp_path, "0.33.0") if zipped_one else sdist(tmp_path)
    whole = archives.read(path, "vllm")
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] = value
    path.write_bytes(data)
    try:
        found = archives.read(path, "vllm")
    except ReleaseError as error:
        assert "\n" not in str(error)
    else:
        assert found.files.items() <= whole.files.items() or not zipped_one
