"""What people ask for, and the releases that it means: the installed one, a folder, an archive, a number, a range."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ascend_overlay import versions
from ascend_overlay.errors import ReleaseError, did_you_mean
from ascend_overlay.releases import archives, cache, trees
from ascend_overlay.releases.index import Index, told
from ascend_overlay.releases.release import Release
from ascend_overlay.releases.watcher import Silent, Watcher
from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import HERE

INSTALLED, NEWEST, NEWEST_PRE = "installed", "newest", "newest-pre"
_CHUNK = 2**20


def find(wanted: Sequence[str], *, package: str = "vllm", watcher: Watcher | None = None) -> list[Release]:
    """Return the releases that are asked for, sorted by version, each once. Nothing is imported, built or run.

    What an index has is fetched once and kept in the user's cache; what is kept needs no network.

    Args:
        wanted: each is "installed", the folder of a package, a checkout or an unpacked source distribution, the path of
            a wheel or a source distribution, the number of a release, a range such as ">=0.27.1,<0.34", "newest", or
            "newest-pre", which may be a pre-release.
        package: the name by which it is imported.
        watcher: who is told of downloads, and of releases that stand in for others.

    Raises:
        ReleaseError: one of them is nothing, or cannot be had.
    """
    if not package.isidentifier():
        raise ReleaseError(f"{package!r} is no name of a package that can be imported: correct it.")
    search = _Search(package, watcher or Silent())
    found: dict[Path, Release] = {}
    for each in wanted:
        for release in search.named(each):
            found.setdefault(release.folder.resolve(), release)
    return sorted(found.values(), key=_order)


def cached(package: str = "vllm") -> list[str]:
    """Return the numbers of the releases that are in the user's cache, sorted."""
    return cache.versions(package)


class _Search:
    def __init__(self, package: str, watcher: Watcher) -> None:
        self._package, self._watcher = package, watcher
        self._index = Index()

    def named(self, wanted: str) -> Iterator[Release]:
        """Yield the releases that a word means."""
        if wanted == INSTALLED:
            yield self._installed()
        elif wanted in (NEWEST, NEWEST_PRE):
            yield self._newest(pre=wanted == NEWEST_PRE)
        elif (number := _number(wanted)) is not None:
            yield self._numbered(wanted, number)
        elif (span := _range(wanted)) is not None:
            yield from self._in_range(wanted, span)
        else:
            yield self._at(wanted)

    def _installed(self) -> Release:
        found = HERE.find(self._package)
        if not isinstance(found, Found) or not found.search:
            raise ReleaseError(
                f"{self._package!r} is not installed in this Python: name a release, a folder or an archive instead."
            )
        folder = Path(found.search[0])
        trees.check(folder)
        version = versions.installed(self._package) or ""
        return Release(f"{version or 'unknown'} (installed)", version, folder, self._package)

    def _at(self, wanted: str) -> Release:
        path = Path(os.path.expanduser(wanted))
        try:
            if path.is_dir():
                folder = trees.package_folder(path, self._package)
                trees.check(folder)
                return Release(wanted, trees.version(folder), folder, self._package)
            if archives.is_archive(path) or path.is_file():
                return self._archive(wanted, path)
        except OSError as error:
            where = str(error.filename or wanted)
            raise ReleaseError(
                f"{where!r} cannot be read ({error.strerror}): see to its permissions, or name another."
            ) from error
        except ValueError as error:
            raise ReleaseError(f"{wanted!r} cannot be read ({error}): correct the path.") from error
        known = [INSTALLED, NEWEST, NEWEST_PRE, *cached(self._package)]
        raise ReleaseError(
            f"{wanted!r} is no release of {self._package}: name 'installed', a folder, a wheel, a source distribution, "
            f"a number such as 0.33.0, a range such as '>=0.27.1,<0.34', 'newest' or 'newest-pre'."
            f"{did_you_mean(wanted, known)}"
        )

    def _archive(self, wanted: str, path: Path) -> Release:
        if not archives.is_archive(path):
            raise ReleaseError(
                f"{wanted!r} is neither a folder nor an archive of a kind that is read "
                f"({', '.join(archives.SUFFIXES)}): correct the path."
            )
        if not path.is_file():
            raise ReleaseError(f"there is no file {wanted!r}: correct the path.")
        folder = cache.of_archive(self._package, self._digest(path))
        noted = cache.marker(folder, self._package)
        if noted is None:
            contents = archives.read(path, self._package)
            cache.keep(folder, self._package, contents.files, version=contents.version, file=path.name)
            noted = {"version": contents.version}
        return Release(wanted, str(noted["version"]), folder / self._package, self._package)

    def _digest(self, path: Path) -> str:
        digest, done = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
        return digest.hexdigest()[:32]

    def _numbered(self, wanted: str, version: Version) -> Release:
        number = self._equal(version, cache.names(self._package))
        if number is None or cache.marker(cache.of_release(self._package, number), self._package) is None:
            listed = self._index.releases(self._package)
            number = self._equal(version, listed)
            if number is None:
                raise ReleaseError(f"{self._package} {wanted} {self._missing(str(version), list(listed))}")
            self._fetch(number, cache.of_release(self._package, number))
        return Release(number, number, cache.of_release(self._package, number) / self._package, self._package)

    def _equal(self, version: Version, numbers: Iterable[str]) -> str | None:
        # 0.33 is 0.33.0.
        return next((number for number in numbers if Version(number) == version), None)

    def _missing(self, number: str, listed: list[str]) -> str:
        have = ", ".join(cached(self._package)) or "none"
        if self._index.failures:
            return (
                f"is not in the cache, and where pip looks {told(self._index.failures)}; in the cache: {have}. Name "
                f"one of these, a folder or an archive, or try again with a network."
            )
        if not listed:
            return (
                f"is not in the cache, and no index that pip is configured for has any release of it; in the cache: "
                f"{have}. Name one of these, a folder or an archive, or see `pip config list`."
            )
        return (
            f"is no release that pip's indexes have: the newest is {listed[-1]}.{did_you_mean(number, listed)} See "
            f"`pip index versions {self._package}`."
        )

    def _fetch(self, number: str, folder: Path) -> None:
        listed = self._index.releases(self._package)[number]
        try:
            with cache.scratch(folder.parent) as scratch:
                archive = self._index.download(listed, scratch, self._watcher)
                contents = archives.read(archive, self._package)
        except OSError as error:
            raise cache.unwritable(error) from error
        cache.keep(folder, self._package, contents.files, version=number, file=listed.file)

    def _in_range(self, wanted: str, span: SpecifierSet) -> Iterator[Release]:
        have = self._available()
        matching = [number for number in have if span.contains(number)]
        if not matching:
            tail = f" where pip looks {told(self._index.failures)}." if self._index.failures else ""
            known = f"there are {have[0]} to {have[-1]}" if have else "there are none"
            raise ReleaseError(
                f"no release of {self._package} is in the range {wanted!r}: {known}.{tail and f' But{tail}'} Correct "
                f"the range; one with a pre-release in it, such as '>=0.34rc1', takes pre-releases, too."
            )
        for number in matching:
            yield self._numbered(number, Version(number))

    def _newest(self, *, pre: bool) -> Release:
        numbers = [number for number in self._available() if pre or not Version(number).is_prerelease]
        if not numbers:
            raise ReleaseError(f"the newest release of {self._package} {self._missing('', [])}")
        return self._numbered(numbers[-1], Version(numbers[-1]))

    def _available(self) -> list[str]:
        """Return the releases to choose from: those of the indexes that were not withdrawn.

        Is one of the indexes not to be had, what is in the cache counts as well.
        """
        listed = self._index.releases(self._package)
        numbers = {number for number, each in listed.items() if not each.yanked}
        if self._index.failures or not listed:
            have = cached(self._package)
            numbers |= set(have)
            why = f"where pip looks {told(self._index.failures)}" if self._index.failures else "pip's indexes have none"
            self._watcher.note(f"{why}; releases of {self._package} in the cache: {', '.join(have) or 'none'}.")
        return [str(version) for version in sorted(map(Version, numbers))]


def _number(text: str) -> Version | None:
    try:
        # The build that a local label names has the same source.
        return Version(Version(text).public)
    except InvalidVersion:
        return None


def _range(text: str) -> SpecifierSet | None:
    if not text.strip():
        raise ReleaseError("an empty text is no release: name 'installed', a folder, an archive, a number or a range.")
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        if text.lstrip()[0] not in "<>=!~":
            return None
        raise ReleaseError(f"{text!r} is no PEP 440 range: write it as '>=0.27.1,<0.34'.") from None


def _order(release: Release) -> tuple[int, Version, str]:
    try:
        return 0, Version(release.version), release.label
    except InvalidVersion:
        return 1, Version("0"), release.label
