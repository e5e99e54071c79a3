"""Which layers a vLLM has is read from its source, and each is served, inherited, left with a reason, or stands out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ascend_overlay import Overlay
from ascend_overlay.commands.coverage import report
from ascend_overlay.commands.coverage.scan import Layer, scan
from ascend_overlay.commands.coverage.served import INHERITED, LEFT, OUT, SERVED, UNKNOWN, Row, rows
from ascend_overlay.errors import TargetError
from ascend_overlay.npu.case import LayerCase

SOURCE = {
    "vllm/__init__.py": "",
    "vllm/model_executor/__init__.py": "",
    "vllm/model_executor/custom_op.py": "class CustomOp: ...\nclass PluggableLayer: ...\n",
    "vllm/layers/__init__.py": "from .norm import Norm as TheNorm\n",
    "vllm/layers/norm.py": """
        from vllm.model_executor.custom_op import CustomOp

        @CustomOp.register("norm")
        class Norm(CustomOp):
            def forward_native(self, x): ...

        class Plain: ...
        """,
    "vllm/models/__init__.py": "",
    "vllm/models/one.py": """
        from ..layers import TheNorm
        from vllm.model_executor.custom_op import CustomOp, PluggableLayer
        from elsewhere import CustomOp as NotOurs

        class OwnNorm(TheNorm):
            def forward(self, x): ...

        class ScaledNorm(TheNorm):
            def scale(self): ...

        @PluggableLayer.register("mixer")
        class Mixer(PluggableLayer): ...

        class Stranger(NotOurs): ...
        """,
    "vllm/ir/ops/__init__.py": "",
    "vllm/ir/ops/norms.py": """
        @register_op
        def rms(x): ...

        @register_op(allow_inplace=True)
        def add_rms(x, y): ...

        def helper(x): ...
        """,
}


@pytest.fixture
def vllm(site: Any) -> Path:
    """The source of a small vLLM."""
    site.write(SOURCE)
    return Path(site.folder) / "vllm"


def test_classes_are_found_through_names_and_re_exports(vllm: Path) -> None:
    found = {layer.target: layer for layer in scan(vllm)}
    assert set(found) == {
        "vllm.layers.norm:Norm",
        "vllm.models.one:OwnNorm",
        "vllm.models.one:ScaledNorm",
        "vllm.models.one:Mixer",
        "vllm.ir.ops:rms",
        "vllm.ir.ops:add_rms",
    }
    assert found["vllm.layers.norm:Norm"] == Layer("vllm.layers.norm:Norm", "CustomOp", (), "norm", True)
    assert found["vllm.models.one:ScaledNorm"].bases == ("vllm.layers.norm:Norm",)
    assert found["vllm.models.one:Mixer"].kind == "PluggableLayer"
    assert found["vllm.models.one:Mixer"].registered == "mixer"


def test_modules_that_import_one_another_come_to_an_end(site: Any) -> None:
    site.write(
        {"vllm/a.py": "from vllm.b import CustomOp\nclass A(CustomOp): ...", "vllm/b.py": "from vllm.a import *"}
    )
    site.write({"vllm/c.py": "from vllm.d import CustomOp\n", "vllm/d.py": "from vllm.c import CustomOp\n"})
    site.write({"vllm/model_executor/custom_op.py": ""})
    site.write({"vllm/e.py": "from vllm.c import CustomOp\nclass E(CustomOp): ...\n"})
    with pytest.raises(TargetError, match="no class derived from"):
        scan(Path(site.folder) / "vllm")


def _states(vllm: Path, overlay: Overlay, cases: list[LayerCase], reasons: dict[str, str]) -> dict[str, Any]:
    return {row.layer.name: row for row in rows(scan(vllm), [overlay], cases, reasons)}


def test_each_layer_has_one_of_four_states(vllm: Path) -> None:
    overlay = Overlay("norms", reason="a test")
    overlay.subclass("vllm.layers.norm:Norm", "mine:Norm")
    found = _states(vllm, overlay, [], {"vllm.models.*": "too general", "vllm.models.one:M*": "nobody asked"})
    assert found["Norm"].state == SERVED
    assert found["Norm"].overlays == ("norms",)
    assert found["Mixer"].state == LEFT
    assert found["Mixer"].about == "nobody asked", "the longest pattern that fits wins"
    assert found["OwnNorm"].about == "too general"
    found = _states(vllm, overlay, [], {})
    assert found["ScaledNorm"].state == INHERITED
    assert found["ScaledNorm"].overlays == ("norms",)
    assert found["OwnNorm"].state == LEFT
    assert "forward method of its own" in found["OwnNorm"].about
    assert found["Mixer"].state == UNKNOWN
    assert found["rms"].state == UNKNOWN


def test_a_patch_of_a_method_and_a_case_count_too(vllm: Path) -> None:
    overlay = Overlay("norms", reason="a test")
    overlay.wrap("vllm.models.one:Mixer.mix", "mine:mix")
    overlay.kernel("rms", "mine:rms")
    case = LayerCase(
        layer="vllm.layers.norm:Norm",
        label="",
        dtype="float32",
        overlay="norms",
        run=list,
        operators=(),
        rtol=0.0,
        atol=0.0,
    )
    found = _states(vllm, overlay, [case], {})
    assert found["Mixer"].state == SERVED
    assert found["rms"].state == SERVED
    assert found["Norm"].about == "through what it calls"
    assert found["add_rms"].state == UNKNOWN
    reasoned = _states(vllm, overlay, [case], {case.layer: "it is simple"})
    assert reasoned["Norm"].state == SERVED
    assert reasoned["Norm"].about == "through what it calls; otherwise it is simple"
    assert reasoned["OwnNorm"].about.endswith("with a forward method of its own: it is simple")


PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.conditions import env, platform, role
    from ascend_overlay.hooks import hookimpl
    from ascend_overlay.npu.case import LayerCase

    def norms(**options):
        overlay = Overlay("norms", reason="a test", **options)
        overlay.subclass("vllm.layers.norm:Norm", "mine:Norm")
        return overlay

    def patch(**options):
        overlay = Overlay("norms", reason="a test")
        overlay.subclass("vllm.layers.norm:Norm", "mine:Norm", **options)
        return overlay

    @hookimpl
    def ascend_overlay_overlays():
        return [{overlay}]

    @hookimpl
    def ascend_overlay_cases():
        return [LayerCase(layer="vllm.ir.ops:rms", label="", dtype="float32", overlay="norms", run=list, operators=(),
                          rtol=0.0, atol=0.0)]
"""
STATES: dict[str, tuple[str, str, str, str]] = {
    "in range": ("norms(vllm='>=0.30')", "0.32.0", SERVED, "subclass"),
    "out of range": ("norms(vllm='>=0.40')", "0.32.0", OUT, "norms is for vllm >=0.40"),
    "a patch out of range": (
        "patch(vllm='<0.30')",
        "0.32.0",
        OUT,
        "norms patches vllm.layers.norm:Norm in vllm <0.30 only",
    ),
    "a patch in range": ("patch(vllm='<0.33')", "0.32.1+cpu", SERVED, "subclass"),
    "no release": ("norms(vllm='>=0.40')", "", SERVED, "subclass"),
    "a condition": ("norms(when=env('SITE'))", "0.32.0", OUT, "norms: not so that $SITE is set"),
    "a patch's condition": ("patch(when=env('SITE'))", "0.32.0", OUT, "norms: not so that $SITE is set"),
    "a condition that holds": ("norms(when=~env('SITE'))", "0.32.0", SERVED, "subclass"),
    "a role": ("patch(when=role('worker'))", "0.32.0", SERVED, "subclass"),
    "what vLLM says once it runs": ("patch(when=platform('npu'))", "0.32.0", SERVED, "subclass"),
}


@pytest.mark.parametrize(("overlay", "release", "state", "about"), STATES.values(), ids=STATES)
def test_ranges_and_conditions(
    overlay: str, release: str, state: str, about: str, vllm: Path, site: Any, python: Any
) -> None:
    if release:
        site.write({"vllm/_version.py": f"__version__ = version = {release!r}\n"})
    site.write({"plug.py": PLUGIN.format(overlay=overlay)})
    done = python.command("coverage", str(vllm), "--load", "plug", "--json", check=False)
    found = {row["layer"]["target"]: row for row in json.loads(done.stdout)}
    norm = found["vllm.layers.norm:Norm"]
    assert (norm["state"], norm["about"], norm["overlays"]) == (state, about, ["norms"])
    # What is derived from it goes with it.
    derived = found["vllm.models.one:ScaledNorm"]
    assert derived["state"] == (INHERITED if state == SERVED else OUT)
    # A case is of the overlay, whatever becomes of one patch.
    whole = overlay.startswith("patch") or state == SERVED
    assert found["vllm.ir.ops:rms"]["state"] == (SERVED if whole else OUT)


def test_what_nobody_looked_at_comes_last(vllm: Path, site: Any, python: Any) -> None:
    site.write({"plug.py": PLUGIN.format(overlay="norms(when=env('SITE'))")})
    done = python.command("coverage", str(vllm), "--load", "plug", check=False)
    lines = done.stdout.splitlines()
    last = lines[lines.index("ruled out, 4:") :]
    assert last == [
        "ruled out, 4:",
        "  vllm.ir.ops:rms",
        "  vllm.layers.norm:Norm",
        "  vllm.models.one:OwnNorm",
        "  vllm.models.one:ScaledNorm",
        "not looked at: neither an overlay nor a reason for none, 2:",
        "  vllm.ir.ops:add_rms",
        "  vllm.models.one:Mixer",
    ]
    assert "which release it is, so version ranges were not looked at" in done.stderr and done.returncode == 1


def test_a_condition_that_raises_is_a_sentence(vllm: Path, site: Any, python: Any) -> None:
    overlay = "norms(when=__import__('ascend_overlay').conditions.predicate(lambda: 1 / 0, 'it divides'))"
    site.write({"plug.py": PLUGIN.format(overlay=overlay)})
    done = python.command("coverage", str(vllm), "--load", "plug", check=False)
    assert done.returncode == 1
    assert "'it divides' of overlay 'norms' cannot be evaluated: ZeroDivisionError" in done.stderr


def test_cases_that_need_a_torch_that_is_not_there_are_missed_aloud(vllm: Path, site: Any, python: Any) -> None:
    site.write({"blocked.py": "import sys\nsys.modules['torch'] = None\n"})
    text = PLUGIN.format(overlay="norms()").replace(
        "        return [LayerCase", "        import torch\n        return [LayerCase"
    )
    site.write({"plug.py": text, "sitecustomize.py": "import blocked\n"})
    done = python.command("coverage", str(vllm), "--load", "plug", "--json", check=False)
    found = {row["layer"]["target"]: row["state"] for row in json.loads(done.stdout)}
    assert (found["vllm.layers.norm:Norm"], found["vllm.ir.ops:rms"]) == (SERVED, UNKNOWN)
    assert "plugin 'plug'" in done.stderr and "What it serves through what it calls is not counted." in done.stderr


def test_the_command_ends_badly_where_nobody_has_looked(vllm: Path, python: Any) -> None:
    done = python.command("coverage", str(vllm), check=False)
    assert done.returncode == 1
    assert "not looked at" in done.stdout
    done = python.command("coverage", str(vllm), "--json", check=False)
    assert {row["state"] for row in json.loads(done.stdout)} >= {UNKNOWN}


def test_the_command_needs_no_torch(vllm: Path, site: Any, python: Any) -> None:
    """Nor does it import one that is there, which takes seconds."""
    site.write({"torch/__init__.py": "raise SystemExit('torch was imported')\n"})
    done = python.command("coverage", str(vllm), "--json", check=False)
    assert "torch was imported" not in done.stderr
    assert {row["state"] for row in json.loads(done.stdout)} >= {UNKNOWN}


def test_a_long_name_of_a_module_is_broken_at_a_dot() -> None:
    module = "vllm.third_party.flash_linear_attention.ops.fused_norm_gate"
    row = Row(Layer(f"{module}:Norm", "CustomOp"), UNKNOWN, (), "")
    screen = io.StringIO()
    report.show([row], "0", Console(file=screen, width=120))
    lines = [line.split("│")[1].strip() for line in screen.getvalue().splitlines() if line.startswith("│")]
    assert lines == ["vllm.third_party.flash_linear_attention.", "ops.fused_norm_gate", "Norm"]


def test_the_root_of_a_checkout_is_led_on(vllm: Path) -> None:
    with pytest.raises(TargetError, match=rf"no model_executor/custom_op\.py in .*Did you mean {vllm}\?"):
        scan(vllm.parent)


def test_a_folder_that_is_no_vllm_is_said_to_be_none(tmp_path: Path, python: Any) -> None:
    done = python.command("coverage", str(tmp_path), check=False)
    assert done.returncode == 1
    assert f"no model_executor/custom_op.py in {tmp_path}; name the folder of a vLLM" in done.stderr
