"""Where the genuine torch_npu comes from, and reading it without importing it."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.genuine import process, schemas, source, stand_in
from ascend_overlay.npu.genuine.source import TorchNpu

LIBRARY = (
    b"\x7fELF\x00npu_one(Tensor x, int k=1) -> Tensor\x00 not npu_two(Tensor x) -> Tensor\x00"
    b"npu_one.out(Tensor x, *, Tensor(a!) out) -> Tensor(a!)\x00npu_three(Tensor[] x) -> (Tensor, Tensor[])\x00"
    b"npu_four(Tensor x, TensorList out)\x00"
)
META = '@impl(m, "npu_one")\ndef one(x): ...\n@torch.library.register_fake("npu::npu_three")\ndef three(x): ...\n'


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with what is read of torch_npu, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "torch_npu-9.8.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("torch_npu/lib/libtorch_npu.so", LIBRARY)
        archive.writestr("torch_npu/op_plugin/meta/_meta_registrations.py", META)
    return path


def test_schemas_are_read_from_a_wheel_and_from_a_folder(wheel: Path) -> None:
    expected = {
        "npu_one": "npu_one(Tensor x, int k=1) -> Tensor",
        "npu_one.out": "npu_one.out(Tensor x, *, Tensor(a!) out) -> Tensor(a!)",
        "npu_three": "npu_three(Tensor[] x) -> (Tensor, Tensor[])",
    }
    for place in (wheel, source.unpacked(wheel).folder):
        found, meta = schemas.read(place)
        assert found == expected
        assert meta == {"npu_one", "npu_three"}


def test_a_wheel_is_unpacked_once(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source.find(str(wheel))
    assert first is not None and first.version == "9.8.0" and (first.package / "lib").is_dir()
    monkeypatch.setattr(source, "_unpack", None)
    assert source.find(str(wheel)) == first


def test_a_pip_that_does_not_end_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], *, timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(source.subprocess, "run", hang)
    with pytest.raises(ConfigError, match=r"has not downloaded torch_npu 9\.8\.0 in 900 s"):
        source.find("9.8.0")


def test_another_wheel_of_the_same_name_is_another(wheel: Path) -> None:
    first = source.unpacked(wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("torch_npu/more.py", "")
    assert source.unpacked(wheel).folder != first.folder


def test_it_has_to_fit_torch(wheel: Path) -> None:
    pytest.importorskip("torch")
    torch_npu = source.unpacked(wheel)
    assert "torch_npu 9.8.0 is for torch 9.8, and torch" in str(torch_npu.misfit())
    with pytest.raises(ConfigError, match=r"torch_npu 9\.8\.0 cannot be imported beside torch"):
        process.ask(torch_npu, "any.module", None)


@pytest.mark.parametrize(
    ("library", "version", "clashes"),
    [
        ("libc10_cuda.so", "2.13.0", True),
        ("libc10_cuda.so", "2.13.0+cpu", True),
        ("libc10_cuda.so", "2.12.0", False),
        ("libc10.so", "2.13.0", False),
        ("libc10.so", "2.13.0+cpu", False),
        ("libc10.so", "2.13.0+cu130", True),
        ("libc10.so", "2.12.0+cu130", False),
        ("libc10.so", "2.13.0+rocm7", True),
        ("libc10.so", "2.13.0+xpu", True),
    ],
)
def test_a_torch_for_cuda_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, version: str, clashes: bool
) -> None:
    libraries = tmp_path / "torch" / "lib"
    libraries.mkdir(parents=True)
    (libraries.parent / "__init__.py").touch()
    (libraries / library).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(source.versions, "installed", lambda name: version)
    reason = TorchNpu(tmp_path, version.partition("+")[0]).misfit()
    assert (reason is not None) == clashes
    if clashes:
        assert f"beside torch {version}: torch {version} is built for " in str(reason)
        assert "needs torch for CPUs" in str(reason) and "pip install torch==2.13.0 --index-url" in str(reason)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("latest", "neither a release of torch_npu, such as 2.13.0, nor the path of a wheel"),
        ("nothing-1-py3-none-any.whl", "there is no wheel"),
        ("nothing.whl", "not a wheel"),
    ],
)
def test_what_cannot_be_had_is_refused(wanted: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source.find(wanted)


def test_a_wheel_of_something_else_is_refused(wheel: Path) -> None:
    other = wheel.with_name("acme-1.0-py3-none-any.whl")
    wheel.rename(other)
    with pytest.raises(ConfigError, match="a wheel of acme, not of torch_npu"):
        source.find(str(other))
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("acme/__init__.py", "")
    with pytest.raises(ConfigError, match=r"no torch_npu/lib/libtorch_npu\.so"):
        schemas.read(other)


def test_a_release_that_pip_does_not_get_is_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConfigError, match=r"pip cannot download torch_npu 2\.13\.0 .*name its path"):
        source.find("2.13.0")
    monkeypatch.setattr(source, "_SHOWN", 40)
    with pytest.raises(ConfigError, match=r"\(\.\.\. [^()]{1,40}torch_npu==2\.13\.0\)"):
        source.find("2.13.0")


def test_nothing_is_wanted_and_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source.versions, "installed", lambda name: None)
    assert source.find(None) is None


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"gcc is not installed\. Install gcc and binutils"):
        stand_in.build(tmp_path, tmp_path / "libraries")


def test_a_process_that_dies_is_shown(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_npu = source.unpacked(wheel)
    monkeypatch.setattr(TorchNpu, "misfit", lambda self: None)

    def build(folder: Path, libraries: Path) -> int:
        libraries.mkdir()
        return 0

    monkeypatch.setattr(stand_in, "build", build)
    # This torch_npu is an empty namespace package: the child gets as far as its version.
    with pytest.raises(ConfigError, match=r"(?s)torch_npu 9\.8\.0 .* cannot be asked.*Traceback"):
        process.ask(torch_npu, "ascend_overlay.npu.genuine.meta", ([], []))


def test_the_child_gets_no_overlays() -> None:
    clean = process._clean({"ASCEND_OVERLAY": "1", "HOME": "/"})
    assert "ASCEND_OVERLAY" not in clean and clean["HOME"] == "/"
