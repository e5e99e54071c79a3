"""Where pip takes packages from, read as pip reads it: its configuration files, and the variables PIP_..."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay.errors import ReleaseError

_SECTIONS = ("global", "install", "download")
"""In the order in which one beats the other."""
_FALSE = {"", "0", "false", "no", "off", "n", "f"}
_PATIENCE = 30.0


@dataclass(frozen=True)
class PipSettings:
    """What pip is told.

    Attributes:
        indexes: the URLs of indexes; none where pip is told to use none.
        find_links: the URLs or folders in which it looks for files.
        trusted_hosts: whose certificates are not looked at.
        certificates: a file or folder of certificate authorities; None: those of the system.
        client_certificate: a file with a key and a certificate.
        proxy: the URL of a proxy; None: what the environment says.
        timeout: seconds of silence after which a connection is given up.
    """

    indexes: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    certificates: str | None = None
    client_certificate: str | None = None
    proxy: str | None = None
    timeout: float = _PATIENCE


def read(environ: Mapping[str, str] = os.environ) -> PipSettings:
    """Read pip's configuration.

    Raises:
        ReleaseError: a file of it is none that pip can read, or a value in it cannot be used.
    """
    said = _said(environ)
    indexes = [] if said.get("no-index", "").lower() not in _FALSE else [said.get("index-url") or default_index()]
    if indexes:
        indexes += said.get("extra-index-url", "").split()
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    certificates = said.get("cert") or bundle
    if certificates is not None and not os.path.exists(os.path.expanduser(certificates)):
        raise ReleaseError(
            f"pip is configured for the certificates in {certificates!r}, which is not there: correct the option cert "
            f"in pip's configuration, PIP_CERT or REQUESTS_CA_BUNDLE."
        )
    client = said.get("client-cert")
    return PipSettings(
        tuple(_url(index) for index in indexes),
        tuple(_url(place) for place in said.get("find-links", "").split()),
        tuple(said.get("trusted-host", "").split()),
        os.path.expanduser(certificates) if certificates else None,
        os.path.expanduser(client) if client else None,
        said.get("proxy") or None,
        _seconds(said.get("timeout") or said.get("default-timeout")),
    )


def files(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the configuration files that pip would read, whether they exist or not, the weakest first.

    Those of the user are left out by pip where PIP_CONFIG_FILE names one that exists.
    """
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(os.path.expanduser("~"))
    shared = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    own = environ.get("XDG_CONFIG_HOME") or str(home / ".config")
    found = [*(Path(folder, "pip", "pip.conf") for folder in shared if folder), Path("/etc/pip.conf")]
    if not (named and os.path.exists(named)):
        found += [home / ".pip" / "pip.conf", Path(own, "pip", "pip.conf")]
    found.append(Path(sys.prefix, "pip.conf"))
    return [*found, Path(named)] if named else found


def _said(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what pip is told, by the names of its long options."""
    sections: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for path in files(environ):
        for section, name, value in _options(path):
            if section in sections:
                sections[section][name] = value
    told: dict[str, str] = {}
    for section in _SECTIONS:
        told |= sections[section]
    for variable, value in environ.items():
        if variable.startswith("PIP_") and value:
            told[_name(variable.removeprefix("PIP_"))] = value
    return told


def _options(path: Path) -> Iterator[tuple[str, str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeError, configparser.Error) as error:
        reason = " ".join(str(error).split())
        raise ReleaseError(
            f"pip's configuration {str(path)!r} cannot be read ({reason}), so it is not known where releases come "
            f"from: correct the file, or set PIP_CONFIG_FILE={os.devnull} to leave all such files out."
        ) from error
    for section in parser.sections():
        for name, value in parser.items(section):
            yield section, _name(name), value


def _name(option: str) -> str:
    return option.lower().replace("_", "-").removeprefix("--")


def _url(place: str) -> str:
    """Return a URL for what may as well be the path of a folder or file."""
    path = os.path.expanduser(place)
    return Path(path).absolute().as_uri() if "://" not in place and os.path.exists(path) else place


def _seconds(text: str | None) -> float:
    try:
        return float(text) if text else _PATIENCE
    except ValueError:
        raise ReleaseError(f"pip's option timeout is {text!r}, which is no number of seconds: correct it.") from None


def default_index() -> str:
    """Return the index that is asked where nobody names one."""
    from unearth import PackageFinder

    return next(source["url"] for source in PackageFinder().sources if source["type"] == "index").rstrip("/")
