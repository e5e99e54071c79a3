"""What an operator demands of the processes of a run: who was there, what was in force, and that nothing failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ascend_overlay.errors import ConfigError, did_you_mean, some_of, usage
from ascend_overlay.ledgers.entries import ASKING, STATES, Entry
from ascend_overlay.ledgers.ledger import Ledger
from ascend_overlay.process import ROLES


@dataclass(frozen=True)
class Demands:
    """What is demanded.

    Attributes:
        expect: how many processes are to have played a role, at least.
        require: overlays that are to be in force in every process that has a use for them.
    """

    expect: Mapping[str, int] = field(default_factory=dict)
    require: Sequence[str] = ()

    def unmet(self, ledgers: Sequence[Ledger]) -> list[str]:
        """Return what is not so, a sentence each."""
        found = [text for ledger in ledgers for text in _asking(ledger)]
        roles = Counter(role for ledger in ledgers for role in _roles(ledger))
        for role, number in self.expect.items():
            if roles[role] < number:
                there = ", ".join(f"{count} {name}" for name, count in sorted(roles.items())) or "none"
                found.append(f"{number} {role} expected, {roles[role]} found; there are: {there}")
        for overlay in self.require:
            found += _not_in_force(overlay, ledgers)
        return found


def parse_expected(text: str, *, whose: str) -> dict[str, int]:
    """Parse "ROLE,ROLE=NUMBER"; `whose` is named in the error.

    Raises:
        ConfigError: there is no such role, or the number is none.
    """
    expected: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        role, equals, number = part.partition("=")
        one_of([role], ROLES, whose=whose)
        if equals and not (number.isdecimal() and int(number)):
            raise usage(ConfigError(f"{whose} has {part!r}; write ROLE or ROLE=NUMBER, such as worker=2."))
        expected[role] = int(number) if equals else 1
    return expected


def one_of(names: Iterable[str], known: Sequence[str], *, whose: str) -> None:
    """See that all names are known.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        if name not in known:
            text = f"{whose} has {name!r}; it takes {', '.join(known)}.{did_you_mean(name, known)}"
            raise usage(ConfigError(text))


def selected(
    ledgers: Sequence[Ledger],
    *,
    overlays: Sequence[str],
    roles: Sequence[str],
    states: Sequence[str],
    run: str | None,
    every_run: Sequence[str] = (),
) -> list[Ledger]:
    """Return the ledgers of certain processes, with certain entries; an empty choice leaves out nothing.

    Args:
        ledgers: of any processes.
        overlays: names of overlays.
        roles: roles that a process plays.
        states: states of entries.
        run: the run that a process belongs to; "latest": that of the one which started last.
        every_run: what else the option takes, which chooses none.

    Raises:
        ConfigError: a name does not exist.
    """
    one_of(roles, ROLES, whose="--role")
    one_of(states, STATES, whose="--state")
    one_of(overlays, sorted({entry.overlay for ledger in ledgers for entry in ledger}), whose="--overlay")
    if run is not None:
        runs = list(dict.fromkeys(ledger.process.get("run", "") for ledger in ledgers))
        run = runs[-1] if run == "latest" and runs else run
        one_of([run], [*runs, "latest", *every_run], whose="--run")
        ledgers = [ledger for ledger in ledgers if ledger.process.get("run", "") == run]

    def is_chosen(entry: Entry) -> bool:
        return (not overlays or entry.overlay in overlays) and (not states or entry.state in states)

    return [
        Ledger(
            ledger.process,
            tuple(filter(is_chosen, ledger)),
            tuple(note for note in ledger.notes if not overlays or note[0] in overlays),
            ledger.operators,
        )
        for ledger in ledgers
        if not roles or not _roles(ledger).isdisjoint(roles)
    ]


def named(ledger: Ledger) -> str:
    """Return the name of a process."""
    return f"{ledger.process['role']} (pid {ledger.process['pid']})"


def _roles(ledger: Ledger) -> set[str]:
    roles = ledger.process.get("roles")
    more = [role for role in roles if isinstance(role, str)] if isinstance(roles, list) else []
    return {str(ledger.process["role"]), *more}


def _asking(ledger: Ledger) -> Iterator[str]:
    for entry in ledger:
        if entry.state in ASKING:
            whose = f"{entry.overlay}: {entry.target}" if entry.overlay else entry.target
            yield f"{named(ledger)}: {entry.state}: {whose}: {entry.why() or 'nobody says why'}"


def _not_in_force(overlay: str, ledgers: Sequence[Ledger]) -> Iterator[str]:
    """Yield where an overlay is not in force, although the process has, or may have, a use for it."""
    applied = False
    for ledger in ledgers:
        entries = ledger.of(overlay)
        if not entries:
            silent = [f"{entry.plugin} ({entry.reason})" for entry in ledger if entry.kind == "plugin"]
            why = f"; not asked for overlays there: {some_of(silent)}" if silent else ""
            yield f"{named(ledger)}: the overlay {overlay} is not enabled there{why}"
        applied = applied or any(entry.state == "applied" for entry in entries)
        # What asks for attention is told already; what another role is for, and what nobody imported, has no use here.
        out = [entry for entry in entries if entry.state == "reverted" or (entry.state, entry.cause) in _OUT]
        if len(out) < len(entries):
            # Of one that is in force, patches may be for other releases and other settings.
            out = [entry for entry in out if entry.cause not in ("release", "condition")]
        for entry in out:
            yield f"{named(ledger)}: {overlay}: {entry.target}: {entry.state}: {entry.reason}"
    if not applied:
        yield f"the overlay {overlay} is applied in none of {len(ledgers)} processes"


_OUT = {("skipped", cause) for cause in ("", "release", "condition", "veto", "conflict", "not asked", "drift")}
