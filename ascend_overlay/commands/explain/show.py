"""What there is to say of a target, on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from ascend_overlay.commands.explain.asked import Asked
from ascend_overlay.commands.explain.explanation import Explanation, View
from ascend_overlay.errors import printable, some_of
from ascend_overlay.ledgers import Entry
from ascend_overlay.ledgers.demands import named
from ascend_overlay.ledgers.ledger import Ledger
from ascend_overlay.ledgers.table import styled
from ascend_overlay.settings import PREFIX, declined

_HOLDERS = 6
_REASON = "A reason is what the overlay says of its patch: why it exists. What is skipped or failed says why not."


def show(found: Explanation, console: Console) -> None:
    """Print it."""
    for line in _head(found):
        _print(console, line)
    for text in _reservations(found):
        _print(console, Text(printable(text), style="yellow"))
    groups = _grouped(found.views, found.release)
    for title, view in groups:
        console.print()
        _print(console, Text(printable(title), style="bold"))
        for line in _stacks(found, view):
            _print(console, line)
    if found.nearest:
        console.print()
        _print(console, Text("The nearest that have patches:"))
        for target in found.nearest:
            _print(console, Text(f"  {printable(target)}"))
    elif any(not view.stacks.is_empty for view in found.views):
        console.print()
        _print(console, Text(_REASON, style="dim"))


def _print(console: Console, text: Text) -> None:
    # A path that is broken in the middle cannot be clicked or copied.
    console.print(text, soft_wrap=True, highlight=False)


def _head(found: Explanation) -> Iterator[Text]:
    asked = found.asked
    yield Text(printable(asked.home), style="bold")
    if asked.alias:
        yield Text(f"  asked for in {asked.alias}, which vLLM {found.vllm} does not have: an overlay serves its import")
    if asked.by_way_of:
        yield Text(f"  at home in {asked.home.partition(':')[0]}; {asked.by_way_of} has it from there")
    yield from _place(asked, found.holders, "  ")


def _place(asked: Asked, holders: Sequence[str], indent: str) -> Iterator[Text]:
    """Yield where the original is, and who has copies."""
    original = asked.original
    if original is not None:
        where = f"{original.file}:{original.line}" if original.file else "no Python source"
        inherited = f", inherited from {original.inherited}" if original.inherited else ""
        yield Text(f"{indent}the original: {original.kind}{inherited}, {where}")
    elif asked.path:
        yield Text(
            f"{indent}the original: {asked.unspelled or 'the source does not tell for certain where it is defined'}"
        )
    if holders:
        which = some_of(holders, limit=_HOLDERS)
        number = f"{len(holders)} modules, which have copies" if len(holders) > 1 else "1 module, which has a copy"
        yield Text(f"{indent}imported by name in {number}: {which}")


def _reservations(found: Explanation) -> Iterator[str]:
    """Yield in what respect what follows is not what is here."""
    if declined() and any(view.process is None for view in found.views):
        yield f"  {PREFIX}={os.environ[PREFIX]} switches the overlays off: what follows is without it"
    theirs = {_vllm(view) for view in found.views} - {None, found.vllm}
    if theirs:
        which = f"the source that was read is of vLLM {found.vllm}, and processes had {', '.join(map(str, theirs))}"
        yield f"  {which}: the original may be elsewhere"


def _vllm(view: View) -> object:
    found = (view.process or {}).get("versions")
    return found.get("vllm") if isinstance(found, dict) else None


def _grouped(views: Sequence[View], release: str | None) -> list[tuple[str, View]]:
    """Return the views with their titles; processes of one role that have the same share one."""
    groups: list[tuple[list[View], object]] = []
    for view in views:
        same = (view.process or {}).get("role"), _picture(view)
        for members, known in groups:
            if known == same:
                members.append(view)
                break
        else:
            groups.append(([view], same))
    return [(_title(members, release), members[0]) for members, _ in groups]


def _title(members: Sequence[View], release: str | None) -> str:
    process = members[0].process
    if process is None:
        where = "here" if release is None else f"beside vLLM {release}"
        return f"What would be on it {where}, the outermost first:"
    if len(members) == 1:
        return f"In {named(Ledger(process, ()))}, the outermost first:"
    pids = some_of([str((view.process or {})["pid"]) for view in members], limit=8)
    return f"In {process['role']} x{len(members)} (pids {pids}), the outermost first:"


def _picture(view: View) -> object:
    found = view.stacks
    everything = [*(entry for entries in found.on_it.values() for entry in entries), *found.above, *found.inside]
    # What it took in time differs always.
    return [(e.overlay, e.version, e.target, e.state, e.why(), e.copies, e.stale, e.foreign()) for e in everything]


def _stacks(found: Explanation, view: View) -> Iterator[Text]:
    stacks = view.stacks
    if stacks.is_empty:
        yield Text("  no patch")
        return
    if found.asked.is_tree:
        for target, entries in sorted(stacks.on_it.items()):
            yield Text(f"  {printable(target)}")
            place = found.places.get(target)
            if place is not None and place.asked is not None:
                yield from _place(place.asked, place.holders, "    ")
            elif place is not None:
                yield Text(f"    {printable(place.missing)}", style="yellow")
            yield from _entries(entries, indent="    ")
        return
    on_it = [entry for entries in stacks.on_it.values() for entry in entries]
    if not on_it:
        yield Text("  no patch on it")
    yield from _entries(on_it, indent="  ")
    for title, entries in (
        ("on the class that it belongs to", stacks.above),
        ("on what is in it", stacks.inside),
        ("by its name", stacks.related),
    ):
        if entries:
            yield Text(f"  {title}:")
            yield from _entries(entries, indent="    ", targets=True)


def _entries(entries: Iterable[Entry], *, indent: str, targets: bool = False) -> Iterator[Text]:
    for number, entry in enumerate(entries, 1):
        origin = f"{entry.distribution or f'plugin {entry.plugin}'} {entry.version}".strip()
        state = Text.from_markup(styled(entry.state))
        target = f"{printable(entry.target)}  " if targets else ""
        head = (
            f"{indent}{number}. {target}{printable(entry.kind)} by {printable(entry.overlay)} ({printable(origin)}): "
        )
        yield Text.assemble(head, state)
        for line in _about(entry):
            yield Text(f"{indent}     {printable(line)}")


def _about(entry: Entry) -> Iterator[str]:
    yield entry.detail
    yield f"{'why not' if entry.state in ('skipped', 'failed', 'reverted') else 'reason'}: {entry.reason}"
    if entry.seam and entry.seam != "patch":
        yield f"seam: {entry.seam}"
    if entry.copies:
        copies = "1 copy" if len(entry.copies) == 1 else f"{len(entry.copies)} copies"
        yield f"{copies} re-bound: {some_of(entry.copies, '; ')}"
    for holder in entry.stale:
        yield f"NOT re-bound: {holder}"
    foreign = entry.foreign()
    for note in foreign:
        yield f"changed by others: {note}"
    for note in entry.notes:
        if note not in foreign:
            yield note
