"""`ascend-overlay drift`: what is said, in the terminal and as JSON, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from drift_kit import DRIFT, OPTIONS, Answers, Place


def of(answers: Answers, target: str, overlay: str) -> list[dict[str, Any]]:
    """Return what is said of a target to an overlay."""
    return [
        item
        for item in answers.json["items"]
        if item["target"] == target and overlay in [by["overlay"] for by in item["by"]]
    ]


@pytest.mark.parametrize(
    ("target", "overlay", "todo", "why"),
    [
        ("vllm.ops:same", "mine", "nothing", "unchanged"),
        ("vllm.ops:laid_out", "mine", "nothing", "comments, docstring"),
        ("vllm.ops:body", "mine", "review", "body changed"),
        ("vllm.ops:signed", "mine", "adapt", "our replacement does not take every call"),
        ("vllm.ops:old_name", "mine", "adapt", "gone; perhaps vllm.ops:new_name"),
        ("vllm.ops:lost", "mine", "drop", "gone"),
        ("vllm.ops:brought", "mine", "drop", "is there now, and the patch is to bring it"),
        ("vllm.ops:edited", "mine", "adapt", "the lines to edit (`y = x + 1` ...) are not in it"),
        ("vllm.ops:for_old", "mine", "nothing", "the patch is not for 0.33.0, but for <0.33"),
        ("vllm.ops:Kind", "mine", "adapt", "was a class, is a function"),
        ("vllm.base:Base.update_cache", "leaner", "adapt", "ours does not take every call any more"),
        ("vllm.base:Base.read", "leaner", "review", "body changed"),
        ("overlay late", "late", "drop", "overdue: it was to be retired with vllm>=0.33"),
        ("vllm.ops:body", "late", "drop", "body changed"),
        ("overlay marked", "marked", "drop", "redundant: vllm.ops:brought is there"),
        ("overlay bounded", "bounded", "review", "left out: it is for vllm <0.33"),
        ("overlay neither", "neither", "nothing", "it is for neither release"),
        ("vllm.ops:lost", "neither", "nothing", "gone"),
    ],
)
def test_what_is_to_be_done(answers: Answers, target: str, overlay: str, todo: str, why: str) -> None:
    found = [item for item in of(answers, target, overlay) if why in item["why"]]
    assert [item["todo"] for item in found] == [todo], of(answers, target, overlay)


def test_nothing_is_left_out_of_the_json(answers: Answers) -> None:
    counts = answers.json["counts"]
    assert list(counts) == ["drop", "adapt", "review", "nothing"]
    assert sum(counts.values()) == len(answers.json["items"])
    assert answers.json["old"]["release"] == "0.32.0" and answers.json["new"]["release"] == "0.33.0"


def test_a_name_that_several_take_is_told_once(answers: Answers) -> None:
    (item,) = of(answers, "vllm.ops:same", "bounded")
    assert [by["overlay"] for by in item["by"]] == ["bounded", "marked", "mine"]


def test_the_diffs(answers: Answers) -> None:
    (renamed,) = of(answers, "vllm.ops:old_name", "mine")
    assert "-def old_name(x, y):\n+def new_name(x, y):" in renamed["diff"]
    (lost,) = of(answers, "vllm.ops:lost", "mine")
    assert "+++ /dev/null" in lost["diff"] and "-    return total" in lost["diff"]
    (signed,) = of(answers, "vllm.ops:signed", "mine")
    assert (signed["signature_was"], signed["signature_is"]) == ("(x)", "(x, scale)")
    assert "diff" not in next(item for item in of(answers, "vllm.ops:same", "mine"))


def test_the_tables(answers: Answers) -> None:
    lines = answers.table.splitlines()
    assert lines[0] == "vllm 0.32.0 → 0.33.0"
    titles = [
        line.partition(" (")[0] for line in lines if line.startswith(("drop (", "adapt (", "review (", "nothing"))
    ]
    assert titles == ["drop", "adapt", "review", "nothing"]
    assert "-def old_name(x, y):" in answers.table
    # What is hostile is shown, and does nothing.
    assert "\x1b[31m" not in answers.table and "\\x1b[31mred" in answers.table
    assert "\u202e" not in answers.table and "red]x[/]" in answers.table


def test_without_options_only_what_is_to_be_done_is_listed(place: Place) -> None:
    (answer,) = place.run(DRIFT)
    assert answer.status == 0 and "nothing: " in answer.out
    assert "nothing (" not in answer.out and "-def old_name" not in answer.out


BAD: dict[str, tuple[list[str], str]] = {
    "no old": (["drift", "nowhere", "new/vllm"], "'nowhere' is no release of vllm"),
    "no new": (["drift", "old/vllm", "./nowhere"], "'./nowhere' is no release of vllm"),
    "the same": (["drift", "old/vllm", "./old"], "OLD 'old/vllm' and NEW './old' are the same source; name two"),
    "no vllm": (["drift", "old/vllm", "empty"], "'empty'"),
    "no overlay": ([*DRIFT[:3], "--only", "absent"], "there is no overlay 'absent' (in --only); there are: "),
    "no plugin": ([*DRIFT[:3], "--load", "absent_module"], "absent_module"),
    "no folder": ([*DRIFT, "--html", "nowhere/a.html"], "is in a folder that does not exist"),
    "a folder": ([*DRIFT, "--html", "empty"], "--html 'empty' is no file"),
    "a grid, no folder": (
        ["check", "--base", "old/vllm", "--vllm", "new/vllm", *OPTIONS, "--html", "nowhere/a.html"],
        "is in a folder that does not exist",
    ),
}


def test_bad_input_is_one_sentence_and_leaves_nothing(place: Place) -> None:
    (place.folder / "empty").mkdir(exist_ok=True)
    before = sorted(place.folder.rglob("*"))
    found = place.run(
        *[[*arguments, "--html", "x.html"] if "--html" not in arguments else arguments for arguments, _ in BAD.values()]
    )
    for (name, (_, says)), answer in zip(BAD.items(), found, strict=True):
        assert answer.status == 2, (name, answer)
        assert says in answer.err and answer.out == "", (name, answer)
        assert len([line for line in answer.err.splitlines() if line.startswith("Error")]) == 1, (name, answer)
        assert "Traceback" not in answer.err
    assert sorted(path for path in place.folder.rglob("*") if "__pycache__" not in path.parts) == [
        path for path in before if "__pycache__" not in path.parts
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(place: Place, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (answer,) = place.run([*DRIFT, "--html", str(tmp_path / "a.html")])
    assert answer.status == 2 and "may not write" in answer.err


def test_what_was_there_is_replaced_as_a_whole(place: Place, tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("earlier")
    link.symlink_to(page)
    (answer,) = place.run([*DRIFT, "--html", str(link)])
    assert answer.status == 0 and answer.out.startswith("vllm 0.32.0 → 0.33.0: drop: ")
    assert link.is_symlink() and page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "page.html"]
