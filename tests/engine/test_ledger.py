"""The ledger: states, JSON, files, table."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
from typing import Any

import pytest
from rich.console import Console

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers import STATES, Entry, Ledger, processes, read_folder
from ascend_overlay.ledgers.table import as_text, styled
from ascend_overlay.patches.attributes import SetAttribute


@pytest.fixture
def mixed(site: Any, offer: Any) -> Any:
    """A ledger with every state in it."""
    site.write({"lib.py": "def run(): return 'stock'\n", "user.py": "from lib import run\n", "later.py": ""})
    importlib.import_module("user")
    applied, skipped, failed, pending = (
        Overlay(name, reason=f"because of {name}") for name in ("applied", "skipped", "failed", "pending")
    )
    applied.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    skipped.wrap("lib:run", when=ascend_overlay.conditions.predicate(lambda: False, "pigs fly"))(lambda *a: None)
    failed.wrap("lib:run")(lambda *a: None)
    failed.wrap("lib:missing")(lambda *a: None)
    pending.add("later:thing", 1)
    offer(applied, skipped, failed, pending, name="plug")
    with pytest.warns(RuntimeWarning):
        ascend_overlay.enable(strict=False)
    return ascend_overlay.ledger()


def theirs() -> str:
    return "theirs"


@pytest.fixture
def asking(site: Any, offer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A ledger with what somebody must look at, the harmless first."""
    site.write({"lib.py": "def run(): return 'stock'\ndef other(): return 1\nKEYS = {run: 1}\nFREE = 1\n"})
    lib = importlib.import_module("lib")
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    one.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    one.wrap("lib:other")(lambda wrapped, instance, args, kwargs: wrapped())
    two.attribute("lib:FREE", 2)
    offer(one, two, name="plug")
    ascend_overlay.enable()
    monkeypatch.setattr(SetAttribute, "effect", lambda self, applied: "a cache answers")
    before = lib.run
    monkeypatch.setattr(lib, "run", lambda: before())
    monkeypatch.setattr(lib, "other", theirs)
    return ascend_overlay.ledger()


def test_every_state(mixed: Ledger) -> None:
    assert [entry.state for entry in mixed] == ["applied", "skipped", "reverted", "failed", "pending"]
    assert {entry.state for entry in mixed} == set(STATES) - {"displaced", "without effect"}
    (applied,) = mixed.of("applied")
    assert applied.copies == ["user.run"] and applied.seconds > 0
    assert (applied.plugin, applied.kind, applied.target) == ("plug", "wrap", "lib:run")
    assert mixed.of("skipped")[0].reason == "not so that pigs fly"
    assert "taken back: lib:missing failed" in mixed.of("failed")[0].reason
    assert mixed.process["pid"] == os.getpid() and mixed.process["role"] == "main"


def test_json_goes_both_ways(mixed: Ledger) -> None:
    assert Ledger.from_dict(json.loads(mixed.to_json())) == mixed


def test_who_was_there_before_is_among_the_others(site: Any, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    monkeypatch.setattr(importlib.import_module("lib"), "run", theirs)
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:run")(lambda: "ours")
    offer(overlay)
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    (text,) = entry.foreign()
    assert text.startswith("in place of ") and f"theirs ({__file__}, line " in text
    assert entry.state == "applied" and entry.why() == ""


def test_other_code_of_a_patched_function_is_among_the_others(site: Any, offer: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\nKEYS = {run: 1}\n"})
    lib = importlib.import_module("lib")
    (held,) = lib.KEYS
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:run")(lambda: "ours")
    offer(overlay)
    ascend_overlay.enable()
    held.__code__ = theirs.__code__
    (text,) = ascend_overlay.ledger().of("one")[0].foreign()
    assert text.startswith(f"other code ({__file__}, line ")


def test_who_is_in_force_or_waits_needs_no_reason(mixed: Ledger) -> None:
    assert [mixed.of(name)[0].why() for name in ("applied", "pending", "skipped")] == ["", "", "not so that pigs fly"]
    assert mixed.of("failed")[1].why().startswith("the target lib:missing does not exist")


def test_a_name_of_an_emoji_is_not_one() -> None:
    entry = Entry(
        ":apple:", ":apple:", "", "", "m:apple:x", "wrap", detail=":apple:", notes=["x:apple:y"], state="applied"
    )
    ledger = Ledger({"role": "main", "pid": 1}, (entry,), ((":apple:", ":apple:"),))
    console = Console(file=io.StringIO(), width=120)
    console.print(ledger)
    processes.show([ledger], console)
    assert console.file.getvalue().count("apple") == 12


def test_table_tells_it_all(mixed: Ledger) -> None:
    text = str(mixed)
    for part in ("applied", "skipped", "failed", "pending", "reverted", "lib:run", "lib:missing", "plug", "pigs fly"):
        assert part in text, text
    assert "1 copy re-bound" in text.replace("\n", " ")


def test_reason_of_a_state(asking: Ledger) -> None:
    run, other, free = asking
    assert [entry.state for entry in asking] == ["applied", "displaced", "without effect"]
    assert run.why() == "" and len(run.foreign()) == 1 and " goes around this patch at lib.run; " in run.foreign()[0]
    assert other.why() == other.foreign()[0]
    assert f"theirs ({__file__}, line {theirs.__code__.co_firstlineno}) stands in place of this patch" in other.why()
    assert free.why() == "a cache answers" and free.foreign() == []


@pytest.mark.parametrize("width", [80, 120])
def test_table_says_first_what_is_wrong(asking: Ledger, width: int) -> None:
    text = as_text(asking, width=width)
    assert max(map(len, text.splitlines())) <= width
    said = " ".join(text.replace("│", " ").split())
    assert "1 displaced, 1 without effect, 1 applied, " in said
    assert "in the function itself met in the function itself: a key of lib.KEYS" in said.replace("by in", "WRONG")
    assert said.count("a cache answers") == 1 and said.count("stands in place of this patch") == 1
    assert said.index("a cache answers") < said.index("set to 2")


def test_narrow_table_has_the_words_below_the_patch(asking: Ledger) -> None:
    lines = [line.strip("│ ").split("│")[0].strip() for line in as_text(asking, width=80).splitlines()]
    assert lines[lines.index("attribute    lib:FREE") + 1] == "a cache answers"


def test_states_have_their_colours() -> None:
    assert [styled(state) for state in STATES if styled(state) == state] == []


def test_summary_of_processes_begins_with_what_is_wrong(asking: Ledger) -> None:
    other = Ledger.from_dict(asking.to_dict() | {"process": {**asking.process, "pid": 1, "role": "worker"}})
    for entry in other:
        entry.notes = [note.replace("seen at ", "seen at 1") for note in entry.notes]
    console = Console(file=io.StringIO(), width=300)
    processes.show([asking, other], console)
    below = console.file.getvalue().splitlines()[-4:]
    assert [line.split(": ")[:3] for line in below[:3]] == [
        ["displaced", "one", "lib:other"],
        ["without effect", "two", "lib:FREE"],
        ["changed by others", "one", "lib:run"],
    ]
    assert all(line.endswith(" [main, worker]") and "seen at" not in line for line in below[:3])


ROLES = ("main", "inspection", "engine_core", "worker")


@pytest.mark.parametrize(("width", "count"), [(80, 1), (80, 2), (80, 4), (120, 4)])
def test_table_of_processes_cuts_no_state_and_no_target(width: int, count: int) -> None:
    target = "vllm.model_executor.layers.attention.attention:unified_attention"
    state = "without effect" if count < 3 else "applied"
    entry = Entry("one", "plug", "", "", target, "wrap", state=state)
    process = ascend_overlay.ledger().process
    shown = processes.as_table([Ledger({**process, "role": role}, (entry,)) for role in ROLES[:count]], width=width)
    text = as_text(shown, width=width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert all(role in text for role in ROLES[:count]) and text.count(state) == count
    joined = "".join(line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│"))
    assert target in joined


def test_notes_are_kept_once(offer: Any) -> None:
    ascend_overlay.note("some_overlay", "something is deprecated")
    ascend_overlay.note("some_overlay", "something is deprecated")
    assert ascend_overlay.ledger().notes == (("some_overlay", "something is deprecated"),)
    assert "something is deprecated" in str(ascend_overlay.ledger())


def test_file_follows_every_change(site: Any, offer: Any, tmp_path: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(overlay)
    folder = tmp_path / "deep" / "ledgers"

    def state() -> str:
        (path,) = folder.glob("*")
        host, started = re.escape(os.uname().nodename), r"\d{8}T\d{6}"
        assert re.fullmatch(rf"main-{host}-{os.getpid()}-{started}\.json", path.name), path.name
        assert path.stat().st_mode & 0o777 == 0o600
        (found,) = read_folder(folder)
        return found.of("one")[0].state

    ascend_overlay.enable(ledger=folder)
    assert state() == "pending"
    importlib.import_module("lib")
    assert state() == "applied"
    ascend_overlay.disable()
    assert state() == "reverted"


@pytest.mark.parametrize("how", ["gone", "full"])
def test_what_cannot_be_written_is_said_and_tried_again(
    offer: Any, tmp_path: Any, site: Any, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    import shutil

    site.write({"lib.py": "def run(): return 'stock'\n", "other.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(overlay)
    overlay.wrap("other:run")(lambda wrapped, instance, args, kwargs: wrapped())
    folder = tmp_path / "ledgers"
    ascend_overlay.enable(ledger=folder)
    shutil.rmtree(folder)
    if how == "full":
        folder.write_text("a file")
        importlib.import_module("lib")
        importlib.import_module("other")
        said = "could not be written to"
        assert caplog.text.count(said) == 1 and said in ascend_overlay.ledger().notes[-1][1]
        folder.unlink()
        ascend_overlay.note("one", "once more")
    else:
        importlib.import_module("lib")
        assert not caplog.text
        importlib.import_module("other")
    (found,) = read_folder(folder)
    assert {entry.state for entry in found} == {"applied"}
    assert [*folder.iterdir()] == [*folder.glob("*.json")]


def test_a_link_in_the_folder_is_not_followed(offer: Any, tmp_path: Any, site: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(overlay)
    folder, victim = tmp_path / "ledgers", tmp_path / "victim"
    victim.write_text("precious")
    ascend_overlay.enable(ledger=folder)
    (path,) = folder.iterdir()
    path.unlink()
    path.symlink_to(victim)
    importlib.import_module("lib")
    assert victim.read_text() == "precious" and not path.is_symlink()
    assert read_folder(folder)[0].of("one")[0].state == "applied"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": {}}', '{"process": {}, "entries": [{"what": 1}]}'])
def test_file_that_is_no_ledger(tmp_path: Any, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ConfigError, match=r"report.json' is not a ledger.*ASCEND_OVERLAY_LEDGER alone"):
        read_folder(tmp_path)


def test_ledgers_come_in_the_order_of_their_start(mixed: Ledger, tmp_path: Any) -> None:
    for pid, started in ((30, "2026-01-01T00:00:02"), (20, "2026-01-01T00:00:03"), (10, "2026-01-01T00:00:03")):
        data = mixed.to_dict() | {"process": {**mixed.process, "pid": pid, "started": started}}
        (tmp_path / f"main-{pid}.json").write_text(json.dumps(data))
    assert [found.process["pid"] for found in read_folder(tmp_path)] == [30, 10, 20]


@pytest.mark.parametrize("kind", ["wrap", "replace", "subclass"])
def test_undo_that_could_not_reach_somebody_is_told(site: Any, offer: Any, kind: str) -> None:
    site.write(
        {
            "lib.py": "def run(): return 'stock'\nclass Run:\n    def __new__(cls): return cls.__name__\n",
            "ours.py": "import lib\nclass Ours(lib.Run): pass\n",
            "late.py": """
                import lib
                class Keeper:
                    def __init__(self, f): self.f = f
                KEEPERS = {"wrap": Keeper(lib.run), "replace": Keeper(lib.run), "subclass": Keeper(lib.Run)}
            """,
        }
    )
    overlay = Overlay("one", reason="a test")
    if kind == "wrap":
        overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    elif kind == "replace":
        overlay.replace("lib:run")(theirs)
    else:
        overlay.subclass("lib:Run", "ours:Ours")
    offer(overlay)
    ascend_overlay.enable()
    keeper = importlib.import_module("late").KEEPERS[kind]
    ascend_overlay.disable()
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "reverted"
    # A function of ours steps aside, whoever holds it; a class cannot.
    left = ["attribute f of a live late.Keeper"] if kind == "subclass" else []
    assert (keeper.f(), entry.stale) == ("Ours" if left else "stock", left)
