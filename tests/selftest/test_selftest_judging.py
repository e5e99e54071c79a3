"""Each thing that can be wrong in a step of the self-test turns a check red, with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.commands.demo.checks import Check
from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.commands.selftest import environment, judging, launches, verification
from ascend_overlay.overlays.platform.choice import PATH


def red(found: list[Check]) -> dict[str, str]:
    """Return the checks that fail."""
    return {check.name: check.text for check in found if not check.ok}


def with_result(folder: Path, **result: Any) -> Run:
    """Return a run with a result."""
    return Run("a step", folder, status=0, result=result)


DEVICES = [{"name": "Ascend910B2", "memory_bytes": 1 << 36}]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, {}),
        ({"devices": [], "hindrance": "CANN is not found"}, {"devices": "CANN is not found"}),
        ({"platform": "vllm_ascend.platform.NPUPlatform"}, {"platform": "vllm_ascend.platform.NPUPlatform"}),
    ],
)
def test_environment(changes: dict[str, Any], wrong: dict[str, str], tmp_path: Path) -> None:
    found = {"hindrance": None, "devices": DEVICES, "platform": PATH} | changes
    failed = red(judging.environment(with_result(tmp_path, **found)))
    assert failed.keys() == wrong.keys()
    assert all(text in failed[name] for name, text in wrong.items())


def case(kind: str, verdict: str = "ok", used: float | None = 0.5) -> dict[str, Any]:
    """Return a case as `verify --json` prints it."""
    return {
        "kind": kind,
        "name": "npu_swiglu",
        "dtype": "bfloat16",
        "label": f"used {used}",
        "verdict": verdict,
        "problems": ["differs"] if verdict == "FAIL" else [],
        "skipped": "",
        "tolerance_used": used,
        "max_error": used,
    }


ALL = [case("operator"), case("NPU", used=0.25), case("NPU", used=0.75), case("layer"), case("NPU layer", used=None)]


@pytest.mark.parametrize(
    ("cases", "ok", "wrong"),
    [
        (ALL, True, {}),
        (
            [*ALL, case("NPU", "FAIL")],
            False,
            {"comparisons": "5 of 6 comparisons hold. The first that does not: npu_s"},
        ),
        # Nothing fails where nothing is looked at.
        ([case("operator"), case("layer")], True, {"on npu": "NPU: 0, NPU layer: 0"}),
        ([*ALL[:4]], True, {"on npu": "NPU layer: 0"}),
    ],
)
def test_verify(cases: list[dict[str, Any]], ok: bool, wrong: dict[str, str], tmp_path: Path) -> None:
    found = verification.summary({"ok": ok, "cases": cases, "missing": [], "torch_npu": None})
    failed = red(judging.verify(with_result(tmp_path, **found)))
    assert failed.keys() == wrong.keys()
    assert all(text in failed[name] for name, text in wrong.items())


def test_of_verify_the_nearest_to_its_tolerance_is_kept() -> None:
    found = verification.summary({"ok": True, "cases": ALL, "missing": [], "torch_npu": None})
    operator, layer = found["on npu"]
    assert (operator["cases"], operator["tolerance_used"], operator["label"]) == (2, 0.75, "used 0.75")
    assert (layer["kind"], layer["cases"], layer["tolerance_used"]) == ("NPU layer", 1, None)


def test_verify_that_lacks_a_case_says_so(tmp_path: Path) -> None:
    found = verification.summary({"ok": False, "cases": ALL, "missing": ["no case of npu_x."], "torch_npu": None})
    assert "no case of npu_x." in red(judging.verify(with_result(tmp_path, **found)))["comparisons"]


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        ({"add": {"launched": 1.0}}, ""),
        ({"add": {"launched": 1.0}, "npu_swiglu": {"error": "RuntimeError: no"}}, "npu_swiglu: RuntimeError: no"),
        ({}, "0 were measured"),
    ],
)
def test_launches(measured: dict[str, Any], says: str, tmp_path: Path) -> None:
    (text,) = red(judging.launches(with_result(tmp_path, measured=measured))).values() or ("",)
    assert says in text and bool(says) == bool(text)


def test_what_one_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(launches.time, "perf_counter", lambda: now[0])  # type: ignore[attr-defined]

    def spends(seconds: float) -> launches.Measured:
        return lambda: now.__setitem__(0, now[0] + seconds)

    assert launches.timed(spends(100e-6), spends(300e-6), 50) == {
        "launched": 2.0,
        "done": 8.0,
        "least": 8.0,
        "most": 8.0,
    }


@pytest.mark.parametrize(
    ("content", "version"),
    [("version=8.1.RC1\n", "8.1.RC1"), ("x=1\nVersion=8.0\n", "8.0"), ("nothing", "found"), (None, "found")],
)
def test_cann(content: str | None, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64" / "libascendcl.so").touch()
    if content is not None:
        (tmp_path / "version.info").write_text(content)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert environment.cann() == version
