"""Where the genuine torch_npu comes from: installed, a wheel, or a release that pip downloads."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from ascend_overlay import availability, versions
from ascend_overlay.errors import ConfigError
from ascend_overlay.npu import fit

_PATIENCE = 900
"""Seconds for the download of a wheel."""

_SHOWN = 300
"""Characters of what pip says that an error repeats."""


@dataclass(frozen=True)
class TorchNpu:
    """A torch_npu that can be read, and imported if it fits the torch that is here.

    Attributes:
        folder: holds the package torch_npu.
        version: its release.
        installed: it is that of this environment, not an unpacked wheel.
    """

    folder: Path
    version: str
    installed: bool = False

    @property
    def package(self) -> Path:
        """The package."""
        return self.folder / "torch_npu"

    def misfit(self) -> str | None:
        """Return why it cannot be imported here, as a sentence; None where it can."""
        torch = versions.installed("torch")
        if torch is None:
            return "torch is not installed."
        why = fit.misfit(torch, self.version)
        return f"torch_npu {self.version} cannot be imported beside torch {torch}: {why}." if why else None

    def __str__(self) -> str:
        how = "CANN found" if availability.cann_found() else "libraries stand in for CANN"
        return f"torch_npu {self.version} ({'installed' if self.installed else 'wheel'}, {how})"


def find(wanted: str | None = None) -> TorchNpu | None:
    """Return the torch_npu to ask.

    Args:
        wanted: a release, which pip downloads once, or the path of a wheel; None: the one that is installed.

    Returns:
        None if nothing is wanted and nothing is installed.

    Raises:
        ConfigError: what is wanted cannot be had.
    """
    if wanted is None:
        return _installed()
    if wanted.endswith(".whl"):
        return unpacked(Path(wanted))
    try:
        release = str(Version(wanted))
    except InvalidVersion:
        raise ConfigError(
            f"{wanted!r} is neither a release of torch_npu, such as 2.13.0, nor the path of a wheel."
        ) from None
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for folder in sorted(cache().glob(f"torch_npu-{release}-{tag}-*")):
        return TorchNpu(folder, release)
    with tempfile.TemporaryDirectory() as scratch:
        return unpacked(download(release, Path(scratch)))


def download(release: str, folder: Path) -> Path:
    """Download the wheel of a release for this interpreter into `folder`; return its path.

    Raises:
        ConfigError: pip cannot get it.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), f"torch_npu=={release}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"pip has not downloaded torch_npu {release} in {_PATIENCE} s. Try again, or download the wheel elsewhere "
            f"and name its path instead of the release."
        ) from error
    wheels = sorted(folder.glob(f"torch_npu-{release}-*.whl"))
    if wheels:
        return wheels[0]
    words = " ".join(done.stderr.split())
    reason = words if len(words) <= _SHOWN else f"... {words[-_SHOWN:].partition(' ')[2]}"
    raise ConfigError(
        f"pip cannot download torch_npu {release} for Python {sys.version_info.major}.{sys.version_info.minor} on this "
        f"machine ({reason}). Download the wheel elsewhere and name its path instead of the release."
    )


def unpacked(wheel: Path) -> TorchNpu:
    """Unpack a wheel into the cache, where it is not there yet.

    Raises:
        ConfigError: there is no such wheel of torch_npu, or the cache cannot be written.
    """
    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            contents = zlib.crc32(repr([(info.filename, info.CRC) for info in archive.infolist()]).encode())
            folder = cache() / f"{wheel.stem}-{contents:08x}"
            if name != "torch-npu":
                raise ConfigError(f"{str(wheel)!r} is a wheel of {name}, not of torch_npu.")
            if not folder.exists():
                _unpack(archive, folder)
    except (InvalidWheelFilename, zipfile.BadZipFile) as error:
        raise ConfigError(f"{str(wheel)!r} is not a wheel: {error}.") from error
    except FileNotFoundError:
        raise ConfigError(f"there is no wheel {str(wheel)!r}.") from None
    except OSError as error:
        raise ConfigError(
            f"{str(wheel)!r} cannot be unpacked into {str(cache())!r} ({error.strerror}); let XDG_CACHE_HOME name a "
            f"folder with 200 MB of free space."
        ) from error
    return TorchNpu(folder, str(version))


def cache() -> Path:
    """Return the folder that unpacked wheels are kept in."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ascend_overlay" / "torch_npu"


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Complete or not there: somebody else may be looking.
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
    try:
        archive.extractall(scratch)
        if not folder.exists():
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _installed() -> TorchNpu | None:
    version = versions.installed("torch_npu")
    spec = importlib.machinery.PathFinder.find_spec("torch_npu")
    if version is None or spec is None or spec.origin is None:
        return None
    return TorchNpu(Path(spec.origin).parent.parent, version, installed=True)
