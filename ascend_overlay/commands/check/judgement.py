"""What is found on each release, before anybody prints it."""

from __future__ import annotations

import ast
import gc
from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ascend_overlay import api, versions
from ascend_overlay.commands.check import locked
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import Finding, Weight
from ascend_overlay.couplings.leaning import Leaning
from ascend_overlay.couplings.overlays import OverlayFinding, judge_overlays
from ascend_overlay.overlay import Overlay
from ascend_overlay.releases import Release
from ascend_overlay.source.atlas import Atlas
from ascend_overlay.source.beside import Beside
from ascend_overlay.source.sources import Sources

FITS, REVIEW, BREAKS = "fits", "review", "breaks"
"""What an overlay does on a release."""
_OF_WEIGHT: dict[Weight, str] = {
    "breaking": BREAKS,
    "behavioural": REVIEW,
    "unknown": REVIEW,
    "additive": FITS,
    "none": FITS,
}


@dataclass(frozen=True)
class Judged:
    """All overlays on one release.

    Attributes:
        release: the release.
        base: the one that it is compared with; None where it is looked at alone.
        overlays: what became of each.
        compared: the source of the two.
        lock: what is not as in a lock; None where there is none to compare with.
    """

    release: Release
    base: Release | None
    overlays: tuple[OverlayFinding, ...]
    compared: Comparison
    lock: locked.Comparison | None = None

    @property
    def name(self) -> str:
        """The release, as it is shown."""
        return self.release.version or self.release.label

    def fails(self, *, ranges: bool) -> bool:
        """Tell whether an overlay breaks, or, with `ranges`, is left out by its range."""
        return any(
            found.weight == "breaking" if found.ruled_out is None or not ranges else True for found in self.overlays
        )

    @property
    def drifts(self) -> bool:
        """Whether anything is not as in the lock."""
        return self.lock is not None and self.lock.differs

    def drifted(self, overlay: str) -> Sequence[locked.Drifted]:
        """Return what an overlay rests on that is not as in the lock."""
        return self.lock.overlays.get(overlay, ()) if self.lock is not None else ()


def verdict(found: OverlayFinding) -> str:
    """Return what an overlay is on a release, whatever its range says."""
    return _OF_WEIGHT[found.weight]


@dataclass(frozen=True)
class Remark:
    """What is to be said about one name.

    Attributes:
        about: how it is taken: "override, super call".
        finding: what became of it; the worst, where it is taken in several ways.
        where: who takes it, "module:Class.method, line 9".
        place: the file and line of the first of these; None of a patch that nothing leans on.
    """

    about: str
    finding: Finding
    where: tuple[str, ...]
    place: tuple[str, int] | None


def remarks(found: OverlayFinding) -> list[Remark]:
    """Return what there is to say about an overlay, the worst first; once for each name and reason."""
    grouped: dict[tuple[str, str, str], list[tuple[str, Finding]]] = {}
    pairs = [(each.patch.kind, each.finding) for each in found.patches if each.in_range]
    pairs += [(finding.use.kind, finding) for finding in found.leans if finding.use is not None]
    for about, finding in pairs:
        grouped.setdefault((finding.target, finding.weight, finding.why), []).append((about, finding))
    said = []
    for group in grouped.values():
        uses = [finding.use for _, finding in group if finding.use is not None]
        where = dict.fromkeys(f"{use.by}, line {use.line}" for use in uses)
        place = (uses[0].file, uses[0].line) if uses else None
        said.append(Remark(", ".join(dict.fromkeys(about for about, _ in group)), group[0][1], tuple(where), place))
    return sorted(said, key=lambda remark: (remark.finding.rank, remark.finding.target))


def judged(
    releases: Sequence[Release],
    base: Release | None,
    overlays: Mapping[str, tuple[Overlay, str]],
    lock: locked.AgainstLock | None = None,
) -> Iterator[Judged]:
    """Judge `overlays` on each release, compared with `base`; what a finding refers to is gone after the next step.

    Args:
        releases: the releases.
        base: what the overlays are known to work with.
        overlays: by name, with who contributes them.
        lock: what each release is held against, too.
    """
    with uncollected():
        shared: dict[str, ast.Module] = {}
        old = atlas(base, shared) if base is not None else None
        every = api.overlays().values()
        leaning = Leaning(old, base.package, every) if old is not None and base is not None else None
        for release in releases:
            same = base is not None and base.folder == release.folder
            # What was parsed of the base serves wherever the text is the same; the rest goes with its release.
            new = old if same and old is not None else atlas(release, ChainMap({}, shared))
            earlier = base is not None and versions.earlier(release.version, base.version)
            compared = Comparison(None if same else old, new, earlier=earlier)
            found = judge_overlays(
                overlays,
                compared,
                leaning or Leaning(new, release.package, every),
                package=release.package,
                version=release.version,
            )
            against = lock.compared(release, found, new.sources) if lock is not None else None
            yield Judged(release, None if same else base, tuple(found), compared, against)
            if new is not old:
                new.forget()


def atlas(release: Release, trees: MutableMapping[str, ast.Module]) -> Atlas:
    """Return all that there is with a release, and with whatever this process can import beside it."""
    return Atlas(Sources(Beside(release.tree), trees=trees), release.package)


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave the garbage collector out: syntax trees are many objects, none of which is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
