"""What a distribution has, what its metadata says, and how the tests' environment is installed."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from imports import CHECKOUT

pytestmark = pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="what belongs to the sources is asked of git")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    # As pip builds it: from a copy, in which nothing is left behind.
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    copy = folder / "checkout"
    for name in filter(None, files):
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CHECKOUT / name).read_bytes())
    code = "import setuptools.build_meta as b; b.build_sdist('../dist')"
    (folder / "dist").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, check=True)
    (archive,) = (folder / "dist").iterdir()
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    return root


@pytest.fixture(scope="module")
def metadata(sdist: Path) -> Message:
    return email.message_from_string((sdist / "PKG-INFO").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["tests", "docs", "examples", "benchmarks", "ascend_overlay", "hooks", "overlays"])
def test_the_source_distribution_has_all_files(sdist: Path, name: str) -> None:
    def files(root: Path) -> set[str]:
        found = (path for path in (root / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(root)) for path in found if path.suffix not in (".pyc", ".pyo")}

    tracked = set(
        subprocess.run(
            ["git", "ls-files", name], cwd=CHECKOUT, capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert tracked <= files(sdist) | {path for path in tracked if not (CHECKOUT / path).exists()}


def test_it_has_what_the_test_command_needs(sdist: Path) -> None:
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "setup.cfg", "pyproject.toml", ".ci/run"):
        assert (sdist / name).is_file(), name


def test_a_package_index_has_no_links_that_lead_nowhere(metadata: Message) -> None:
    text = str(metadata.get_payload())
    assert text.startswith("# ascend_overlay") and "Reversible" in text
    assert re.findall(r"\]\((?!https?://)[^)]*\)", text) == []


def test_nothing_asks_pip_for_another_torch(metadata: Message) -> None:
    """A torch_npu without a number takes the newest torch, a CUDA build, in place of the one that vLLM asks for."""
    wanted = metadata.get_all("Requires-Dist") or []
    assert [text for text in wanted if re.match(r"torch", text)] == []
    assert sorted(metadata.get_all("Provides-Extra") or []) == ["cpu", "test"]


def test_the_documented_torch_npu_is_of_the_documented_torch() -> None:
    lines = (CHECKOUT / "docs" / "npu.md").read_text(encoding="utf-8")
    torch = set(re.findall(r"pip install torch==([\d.]+)", lines))
    torch_npu = set(re.findall(r"pip install (?:--no-deps )?torch_npu==([\d.]+)", lines))
    assert torch == torch_npu and len(torch) == 1
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"torch_npu==([\d.]+)", readme)) == torch


def test_classifiers_are_the_pythons_that_the_readme_calls_tested(metadata: Message) -> None:
    versions = [
        text.rpartition(" ")[2] for text in metadata.get_all("Classifier") or [] if re.search(r":: 3\.\d", text)
    ]
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert f"(tested: {', '.join(versions)};" in readme


# --- installing what tox asks for -------------------------------------------------------------------------------------


def _wheel(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize(("where", "status", "twice"), [("first", 0, False), ("torch", 0, True), ("nowhere", 1, True)])
def test_what_pip_does_not_find_is_looked_for_among_the_wheels_of_torch(
    tmp_path: Path, where: str, status: int, twice: bool
) -> None:
    for folder in ("first", "torch"):
        (tmp_path / folder).mkdir()
    _wheel(tmp_path / where, "a_torch")
    variables = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "first"),
        "TORCH_CPU_WHEELS": str(tmp_path / "torch"),
    }
    target = tmp_path / "installed"
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / ".ci" / "install.py"), "--target", str(target), "a_torch"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, (target / "a_torch.py").exists()) == (status, status == 0)
    assert (f"Once more, with PyTorch's wheels for CPUs from {tmp_path / 'torch'}:" in done.stderr) is twice
