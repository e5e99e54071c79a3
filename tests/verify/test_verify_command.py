"""The command: what it gathers, prints and writes, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from verify_kit import console, layer, operator, printed, swiglu, writer

from ascend_overlay import Overlay, availability
from ascend_overlay import settings as settings_module
from ascend_overlay.commands.verify import command, layers, usage
from ascend_overlay.errors import ConfigError, PluginError
from ascend_overlay.npu.genuine import source

LIB = "import torch\ndef gate(x):\n    a, b = x.chunk(2, -1)\n    return torch.nn.functional.silu(a) * b\n"
GATE = """
import torch
from ascend_overlay import Overlay, npu
npu.load("npu_swiglu")
gate = Overlay("gate", reason="a test")
gate.replace("lib:gate", "gate_overlay:swiglu")
def swiglu(x):
    return torch.ops.npu.npu_swiglu(x)
"""


@pytest.fixture(autouse=True)
def _surroundings(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.vllm("0.32.0")
    site.write({"lib.py": LIB, "gate_overlay.py": GATE})
    monkeypatch.setattr(layers, "configured", contextlib.nullcontext)
    monkeypatch.setattr(source, "find", lambda wanted: None)
    usage._uses.cache_clear()
    for name in (*command._QUIET, settings_module.PREFIX):
        monkeypatch.setenv(name, "")


@pytest.fixture
def verify(offer: Any) -> Any:
    """Run the command with some cases, and the overlay "gate"; returns (all is well, what it prints, its data)."""

    def run(*cases: Any, **options: Any) -> tuple[bool, str, Any]:
        import gate_overlay

        offer(gate_overlay.gate, cases=lambda: list(cases))
        to, silent = console(), console()
        data: list[Any] = []
        ok = command.run(to, **options)
        assert command.run(silent, write=data.append, **options) is ok
        assert printed(silent) == ""
        return ok, " ".join(printed(to).split()), *data

    return run


def test_all_is_well(verify: Any) -> None:
    ok, text, data = verify(operator(), operator(label="again"), layer())
    assert ok and data["ok"]
    assert "npu_swiglu float32 2 " in text and " not checked ok" in text
    assert "gate float32 1 " in text and " 1 called ok" in text
    assert "called under gate: npu_swiglu" in text and data["cases"][2]["called"] == ["npu_swiglu"]
    assert "torch_npu's meta kernels were not asked; pass --torch-npu" in text
    assert text.endswith("All 3 cases passed.")
    assert [case["kind"] for case in data["cases"]] == ["operator", "operator", "layer"]
    assert data["cases"][0]["verdict"] == "ok" and 0 < data["cases"][0]["tolerance_used"] < 1
    assert data["torch_npu"]["meta_kernels_asked"] is False


def test_a_plugin_that_is_loaded_for_it_brings_operator_and_case(
    site: Any, tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write(
        {
            "bringing.py": """
                import torch
                from ascend_overlay.hooks import hookimpl
                from ascend_overlay.npu import ReferenceKernel
                from ascend_overlay.npu.case import OperatorCase

                @hookimpl
                def ascend_overlay_kernels():
                    return ReferenceKernel(
                        schema="test_brought(Tensor x) -> Tensor", cpu=torch.neg, fake=torch.empty_like, source="here"
                    )

                @hookimpl
                def ascend_overlay_cases():
                    yield OperatorCase(
                        operator="test_brought",
                        label="3",
                        dtype="float32",
                        arguments=lambda: ((torch.ones(3),), {}),
                        baseline=lambda x: -x,
                        against="formula",
                        rtol=0,
                        atol=0,
                    )
            """
        }
    )
    to = console()
    assert command.run(to, only=["test_brought"], load=["bringing"]), printed(to)
    assert "No schema is recorded of test_brought." in printed(to)


def test_a_wrong_number_fails_with_its_label(verify: Any) -> None:
    wrong = operator(label="the odd one", baseline=lambda x: swiglu(x) + 1)
    ok, text, data = verify(operator(), wrong, layer())
    assert not ok and not data["ok"]
    assert "FAIL npu_swiglu, float32, the odd one (against formula): 12 of 12 numbers off" in text
    assert text.endswith("1 of 3 cases failed.")
    assert [case["verdict"] for case in data["cases"]] == ["ok", "FAIL", "ok"]
    assert data["cases"][1]["max_error"] == pytest.approx(1.0)


def test_many_failures_of_one_row_are_not_all_listed(verify: Any) -> None:
    ok, text, _ = verify(*(operator(label=f"case {n}", baseline=lambda x: swiglu(x) + 1) for n in range(8)), layer())
    assert not ok and text.count("(against formula)") == 5
    assert "and 3 more cases of this row; --json prints all of them" in text


def test_an_error_can_be_infinite(verify: Any) -> None:
    ok, _, data = verify(operator(baseline=lambda x: swiglu(x) * float("nan")))
    assert not ok and data["cases"][0]["max_error"] == float("inf")


def test_an_operator_without_a_case_fails(verify: Any) -> None:
    ok, text, data = verify(writer(), layer())
    assert not ok
    sentence = "the overlay 'gate' loads npu::npu_swiglu, but there is no case of that operator."
    assert f"FAIL {sentence}" in text and data["missing"] == [sentence]
    assert text.endswith("0 of 2 cases failed, and 1 other problem.")


def test_a_selection_is_not_blamed_for_what_it_leaves_out(verify: Any) -> None:
    ok, _, data = verify(writer(), layer(), only=["gate"])
    assert ok and len(data["cases"]) == 1 and data["torch_npu"] is None


def test_selections(verify: Any) -> None:
    cases = [operator(), operator(dtype="float16"), operator(dtype="float16", label="again"), writer(), layer()]
    cases.append(layer(overlay="other"))

    def labels(**options: Any) -> list[tuple[str, str, str]]:
        _, _, data = verify(*cases, **options)
        return [(case["name"], case["dtype"], case["label"]) for case in data["cases"]]

    assert labels(quick=True) == [
        ("npu_swiglu", "float32", "3 tokens"),
        ("npu_swiglu", "float16", "3 tokens"),
        ("test_writer", "float32", "writes"),
        ("gate", "float32", "3 tokens"),
        ("gate", "float32", "3 tokens"),
    ]


@pytest.mark.parametrize(
    ("options", "count"), [({"only": ["npu_swiglu"]}, 2), ({"dtypes": ["float16"]}, 1), ({"only": ["lib:gate"]}, 1)]
)
def test_what_is_named_is_compared(verify: Any, options: Any, count: int) -> None:
    _, _, data = verify(operator(), operator(dtype="float16"), layer(), **options)
    assert len(data["cases"]) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["npu_swigul"]}, r"no cases of 'npu_swigul'\. Did you mean 'npu_swiglu'"),
        ({"only": ["nothing"]}, r"no cases of 'nothing'\. Name operators \(npu_swiglu\), layers"),
        ({"dtypes": ["float8"]}, r"no cases of the dtype 'float8'; there are some of: float16, float32\."),
        (
            {"only": ["gate", "npu_swiglu"], "dtypes": ["float16"]},
            r"no cases of 'npu_swiglu' in float16; there are some in: float32\.",
        ),
    ],
)
def test_what_nobody_has_is_refused(verify: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        verify(operator(), layer(dtype="float16"), **options)


def test_what_is_no_case_is_refused(verify: Any) -> None:
    with pytest.raises(PluginError, match="neither an OperatorCase nor a LayerCase"):
        verify("npu_swiglu")


def test_skipped_layers_are_no_failure_and_said(verify: Any, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.versions, "installed", lambda name: None if name == "vllm" else "2.13.0")
    ok, text, data = verify(operator(), layer())
    assert ok and data["cases"][1]["verdict"] == "skipped"
    assert "skipped layers need vLLM" in text and text.endswith("All 1 cases passed. 1 were skipped.")


def test_a_device_adds_its_rows(verify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay.commands.verify import operators

    device = operators.Device(
        "npu", lambda tensor: tensor.clone(), lambda name, *a, **k: operators._call(name, *a, **k) * 1.1
    )
    monkeypatch.setattr(operators, "npu_device", lambda: device)
    ok, text, data = verify(operator())
    assert not ok and [case["kind"] for case in data["cases"]] == ["operator", "NPU"]
    assert "Operators, on the NPU npu_swiglu float32 1" in text
    assert "(against reference kernel)" in text


def test_a_device_adds_rows_of_layers_too(verify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay.commands.verify import operators

    device = operators.Device("cpu", lambda tensor: tensor.clone(), operators._call)
    monkeypatch.setattr(operators, "npu_device", lambda: device)
    ok, text, data = verify(layer(), layer(label="shy", cpu_only="it is shy."), only=["gate"])
    assert ok and [case["kind"] for case in data["cases"]] == ["layer", "layer", "NPU layer", "NPU layer"]
    assert "Layers, overlaid, on the CPU gate float32 2" in text
    assert "Layers, overlaid, on the NPU gate float32 2" in text
    assert "skipped it is shy." in text and text.endswith("All 3 cases passed. 1 were skipped.")


def test_overlays_that_are_on_are_refused(offer: Any) -> None:
    import ascend_overlay

    overlay = Overlay("one", reason="a test")
    overlay.module_alias("no_such_lib", "json")
    offer(overlay)
    ascend_overlay.enable(only=["one"], propagate=False)
    with pytest.raises(ConfigError, match="overlays are enabled in this process"):
        command.run(console())


def test_a_torch_npu_that_cannot_be_imported_is_kept_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    monkeypatch.setenv(availability.AUTOLOAD, "1")
    with monkeypatch.context() as patch:
        patch.setattr(availability, "torch_npu_installed", lambda: True)
        patch.setattr(availability, "cann_found", lambda: False)
        del sys.modules["torch_npu"]
        command.prepare()
    assert sys.modules["torch_npu"] is None and os.environ[availability.AUTOLOAD] == "0"
    assert not availability.torch_npu_installed()


def test_a_torch_npu_that_is_asked_for_needs_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(source, "find", lambda wanted: source.TorchNpu(tmp_path, "2.13.0"))
    with pytest.raises(ConfigError, match="gcc is not installed"):
        command.run(console(), torch_npu="2.13.0")


PLUGIN = """
import os, torch
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl
from ascend_overlay.npu.case import OperatorCase
@hookimpl
def ascend_overlay_cases():
    def case(label, error):
        def arguments():
            print("a word of a case")
            os.system("echo a word of a child")
            return (torch.ones(1, 4),), {}
        return OperatorCase(
            operator="npu_swiglu", label=label, dtype="float64", arguments=arguments,
            baseline=lambda x: x[:, :2] * x[:, 2:] * 0.7310586 + error, against="formula", rtol=1e-6, atol=0.0)
    return [case("right", 0), case("wrong", float("inf"))]
"""


def test_the_command_compares_what_a_plugin_brings(python: Any, site: Any) -> None:
    site.write({"plug.py": PLUGIN})
    options = ("--only", "npu_swiglu", "--dtype", "float64", "--json")
    environment = {"ASCEND_OVERLAY_LOAD": "plug", "ASCEND_OVERLAY": "1"}
    done = python.command("verify", *options, env=environment, check=False, timeout=200)
    assert done.returncode == 1, done.stderr
    assert "a word of a case" in done.stderr and "a word of a child" in done.stderr
    assert "Traceback" not in done.stderr and "FAIL" not in done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert [(case["label"], case["verdict"]) for case in cases] == [("right", "ok"), ("wrong", "FAIL")]
    assert cases[1]["max_error"] == "inf"


def test_a_wrong_name_ends_the_command(python: Any) -> None:
    done = python.command("verify", "--torch-npu", "newest", check=False, timeout=200)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Error: 'newest' is neither a release of torch_npu")
