"""pip's configuration, read as pip reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ascend_overlay.errors import ReleaseError
from ascend_overlay.releases import pip_settings

DEFAULT = pip_settings.default_index()


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return an environment in which pip has no files of its own but in `tmp_path`."""
    return {"XDG_CONFIG_DIRS": str(tmp_path / "shared"), "XDG_CONFIG_HOME": str(tmp_path / "own"), **more}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_nothing_is_said() -> None:
    assert pip_settings.read({"PIP_CONFIG_FILE": os.devnull}) == pip_settings.PipSettings((DEFAULT,))


def test_the_stronger_file_section_and_variable_win(tmp_path: Path) -> None:
    write(tmp_path / "shared/pip/pip.conf", "[global]\nindex-url = https://a/simple\ntimeout = 5\nproxy = http://p\n")
    write(tmp_path / "own/pip/pip.conf", "[download]\ntimeout = 8\n[install]\ntimeout = 9\n[global]\ntimeout = 7\n")
    assert pip_settings.read(environ(tmp_path)).timeout == 8.0
    extra = "[download]\nextra-index-url =\n  https://c/simple\n  https://d/simple\n"
    write(tmp_path / "own/pip/pip.conf", "[global]\nindex_url = https://b/simple\n[freeze]\ntimeout = 9\n" + extra)
    found = pip_settings.read(environ(tmp_path))
    assert found.indexes == ("https://b/simple", "https://c/simple", "https://d/simple")
    assert (found.timeout, found.proxy) == (5.0, "http://p")
    found = pip_settings.read(environ(tmp_path, PIP_INDEX_URL="https://e", PIP_TIMEOUT="7"))
    assert found.indexes == ("https://e", "https://c/simple", "https://d/simple") and found.timeout == 7.0
    named = write(tmp_path / "pip.conf", "[install]\nno-index = yes\n")
    found = pip_settings.read(environ(tmp_path, PIP_CONFIG_FILE=str(named)))
    assert (found.indexes, found.timeout) == ((), 5.0)


def test_folders_become_addresses_and_no_index_leaves_them(tmp_path: Path) -> None:
    said = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "true", "PIP_FIND_LINKS": f"{tmp_path} https://w/"}
    found = pip_settings.read(said)
    assert (found.indexes, found.find_links) == ((), (tmp_path.as_uri(), "https://w/"))
    assert pip_settings.read(said | {"PIP_NO_INDEX": "0"}).indexes == (DEFAULT,)


def test_certificates(tmp_path: Path) -> None:
    pem = write(tmp_path / "ca.pem", "")
    base = {"PIP_CONFIG_FILE": os.devnull}
    assert pip_settings.read(base | {"REQUESTS_CA_BUNDLE": str(pem)}).certificates == str(pem)
    assert pip_settings.read(base | {"PIP_CERT": str(pem), "REQUESTS_CA_BUNDLE": "/x"}).certificates == str(pem)
    with pytest.raises(ReleaseError, match=r"certificates in '/nowhere.pem', which is not there"):
        pip_settings.read(base | {"PIP_CERT": "/nowhere.pem"})


@pytest.mark.parametrize("text", ["index-url = x", "[global\n", "[global]\n[global]\n", "\xff"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pip.conf"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ReleaseError, match=r"pip's configuration .*pip.conf.* cannot be read"):
        pip_settings.read(environ(tmp_path, PIP_CONFIG_FILE=str(path)))


def test_a_timeout_that_is_none() -> None:
    with pytest.raises(ReleaseError, match="timeout is 'soon'"):
        pip_settings.read({"PIP_CONFIG_FILE": os.devnull, "PIP_TIMEOUT": "soon"})


@pytest.mark.parametrize("named", ["there", "not there"])
def test_pip_reads_the_same_files(tmp_path: Path, named: str) -> None:
    """pip itself says which files it looks for."""
    write(tmp_path / "there", "[global]\n")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    variables |= environ(tmp_path, PIP_CONFIG_FILE=str(tmp_path / named))
    command = [sys.executable, "-m", "pip", "config", "debug"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    files = [line.strip().rpartition(", exists:")[0] for line in done.stdout.splitlines() if ", exists:" in line]
    assert sorted(files) == sorted(map(str, pip_settings.files(variables)))
