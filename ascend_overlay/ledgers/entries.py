"""A line of the ledger: what became of one patch."""

from __future__ import annotations

from dataclasses import dataclass, field

from ascend_overlay.errors import some_of

STATES = ("pending", "applied", "displaced", "without effect", "skipped", "failed", "reverted")
IN_FORCE = ("applied", "displaced", "without effect")
"""States of a patch that has changed its target: met by the target's users, covered by somebody else's change, or not
met for another reason."""
ASKING = ("failed", "displaced", "without effect")
"""States that ask for attention, the worst first."""

CAUSES = ("role", "release", "condition", "veto", "conflict", "not asked", "drift")
"""Why a patch is skipped: the process plays another part; installed versions; another condition; a plugin; an overlay
that was chosen to decide its target; a plugin that the settings leave out; what it rests on differs from the lock."""

COVERING = "stands in place of this patch"
AROUND = "goes around this patch"
OTHER_CODE = "which whoever held it before runs, was given to"
EARLIER = "which somebody put there before"
"""What a note says of somebody else's change of the patched place."""
SEEN = "seen at "
INEFFECTIVE = "without effect: "


@dataclass
class Entry:
    """What became of one patch.

    Attributes:
        overlay: name of the overlay.
        plugin: name of the plugin that brought it.
        distribution: the distribution that the plugin was installed with; empty for one registered by hand.
        version: the version of that distribution.
        target: what the patch changes.
        kind: the kind of patch, or "overlay" or "plugin" for an entry about a whole one.
        seam: the way it was changed.
        state: one of STATES.
        machinery: the overlay serves the others.
        cause: for a patch that is skipped, one of CAUSES; else empty.
        detail: what the patch puts in place.
        reason: why the patch exists, or why it was skipped or failed.
        seconds: time that loading and applying took.
        copies: other places that now hold the new object.
        stale: places that keep the old one and could not be changed.
        notes: further remarks.
        home: the target by the name that it was defined under, where it is another name of that and both are changed.
        shared_with: for such a target, the names that other modules have for it.
        ran: for a wrapper that is in force: it was called in this process, or torch.compile has traced it; else None.
    """

    overlay: str
    plugin: str
    distribution: str
    version: str
    target: str
    kind: str
    seam: str = ""
    state: str = "pending"
    cause: str = ""
    machinery: bool = False
    detail: str = ""
    reason: str = ""
    seconds: float = 0.0
    copies: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    home: str = ""
    shared_with: list[str] = field(default_factory=list)
    ran: bool | None = None

    def skip(self, cause: str, reason: str) -> None:
        """Note that the patch is not going to be applied, and why."""
        self.state, self.cause, self.reason = "skipped", cause, reason

    def become(self, state: str, reason: str) -> None:
        """Note another state than skipped, and why."""
        self.state, self.cause, self.reason = state, "", reason

    def foreign(self) -> list[str]:
        """Return the notes that tell of somebody else's change of the patched place."""
        said = (f" {COVERING} at ", f" {AROUND} at ", f", {OTHER_CODE} ", f", {EARLIER}")
        return [note for note in self.notes if any(text in note for text in said)]

    def what_else(self) -> str:
        """Return what else the patch changes because its target is another name of it, as a phrase; or nothing."""
        if not self.home:
            return ""
        users = f", {some_of(self.shared_with)} among them" if self.shared_with else ""
        return f"another name of {self.home}: whoever uses that meets the patch, too{users}"

    def why(self) -> str:
        """Return why the patch is in its state, as a phrase; empty where that needs no reason."""
        if self.state == "displaced":
            return "; ".join(note for note in self.notes if f" {COVERING} at " in note)
        if self.state == "without effect":
            return "; ".join(note.removeprefix(INEFFECTIVE) for note in self.notes if note.startswith(INEFFECTIVE))
        return self.reason if self.state in ("skipped", "failed", "reverted") else ""
