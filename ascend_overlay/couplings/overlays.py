"""What the overlays of plugins change in a package, and what their implementations lean on, judged on a release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ascend_overlay import versions
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import WEIGHTS, Finding, Weight, worst
from ascend_overlay.couplings.judging import judge
from ascend_overlay.couplings.leaning import Leaning
from ascend_overlay.couplings.targets import BRINGING, judge_patch
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches.base import Patch
from ascend_overlay.source.atlas import Atlas, Thing


@dataclass(frozen=True)
class PatchFinding:
    """What became of the target of a patch.

    Attributes:
        patch: the patch.
        finding: what became of its target.
        in_range: the release is among those that the patch is for.
    """

    patch: Patch
    finding: Finding
    in_range: bool


@dataclass(frozen=True)
class OverlayFinding:
    """What became of an overlay on a release.

    Attributes:
        overlay: the overlay.
        origin: who contributes it.
        ruled_out: why its ranges leave it out on that release; None where they do not.
        patches: its patches.
        leans: what the modules of its implementations take.
        remarks: what else is to be said: it is overdue, or redundant.
        doubts: what source does not tell about it as a whole.
    """

    overlay: Overlay
    origin: str
    ruled_out: str | None
    patches: tuple[PatchFinding, ...]
    leans: tuple[Finding, ...]
    remarks: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """All findings that count on that release."""
        return [*(each.finding for each in self.patches if each.in_range), *self.leans]

    @property
    def weight(self) -> Weight:
        """The worst of them."""
        return min(worst(self.findings), "unknown" if self.doubts else "none", key=WEIGHTS.index)


def judge_overlays(
    overlays: Mapping[str, tuple[Overlay, str]],
    compared: Comparison,
    leaning: Leaning,
    *,
    package: str,
    version: str,
) -> list[OverlayFinding]:
    """Judge overlays on one state of a package.

    Args:
        overlays: by name, with who contributes them.
        compared: the state of the package that is asked about, and the one that it is compared with.
        leaning: what the implementations take.
        package: the package, as ranges name it.
        version: its release; "" where it is not known, and ranges are not looked at.
    """
    found = []
    brought = frozenset(
        patch.target for overlay, _ in overlays.values() for patch in overlay.patches if patch.kind in BRINGING
    )
    for overlay, origin in overlays.values():
        ruled_out = None
        text = overlay.ranges.get(package)
        if version and not versions.in_range(text, version, whose=f"overlay {overlay.name!r}"):
            ruled_out = f"it is for {package} {text}"
        patches = tuple(
            PatchFinding(
                patch,
                judge_patch(patch, compared, brought, overlay),
                not version or versions.in_range(patch.vllm, version, whose=patch.target),
            )
            for patch in overlay.patches
        )
        heirs = leaning.heirs(overlay, version)
        uses = leaning.of(overlay, version)
        by_hand = {use.target for use in uses if use.kind == "patch"}
        leans = tuple(judge(use, compared, heirs, by_hand) for use in uses)
        found.append(
            OverlayFinding(
                overlay,
                origin,
                ruled_out,
                patches,
                leans,
                tuple(_remarks(overlay, compared.new, package, version)),
                tuple(_doubts(overlay, compared.new)),
            )
        )
    return found


def _remarks(overlay: Overlay, new: Atlas, package: str, version: str) -> Iterator[str]:
    if overlay.retire is not None and version:
        name, spec = versions.requirement(overlay.retire, whose=f"overlay {overlay.name!r}")
        if name == package and versions.admits(spec, version):
            yield f"overdue: it was to be retired with {overlay.retire}"
    if overlay.upstream_marker is not None and isinstance(new.look(overlay.upstream_marker), Thing):
        yield f"redundant: {overlay.upstream_marker} is there, which the overlay names as what makes it unnecessary"


def _doubts(overlay: Overlay, new: Atlas) -> Iterator[str]:
    if overlay.upstream_marker is not None and new.look(overlay.upstream_marker) is None:
        yield (
            f"perhaps redundant: whether {overlay.upstream_marker} is there, which the overlay names as what makes it "
            f"unnecessary, source does not tell"
        )
