"""torch_npu without CANN: `import torch` itself fails, and the message names the way out before it does."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    norm, other = Overlay("norm", reason="a test"), Overlay("other", reason="a test")
    norm.wrap("vllm.layers:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    other.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    @hookimpl
    def ascend_overlay_overlays(): return [norm, other]
"""
NO_CANN = {"LD_LIBRARY_PATH": "", "ASCEND_HOME_PATH": "", "ASCEND_TOOLKIT_HOME": ""}


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.vllm("0.26.0", {"vllm/layers.py": "def run(): return 'stock'\n"})
    site.write(
        {
            "lib.py": "def run(): return 'stock'\n",
            "plug.py": PLUGIN,
            "torch_npu/__init__.py": "raise ImportError('libhccl.so: cannot open shared object file')\n",
        }
    )
    site.distribution("torch_npu", "2.13.0")


def test_command_says_what_to_do(python: Any) -> None:
    done = python.command("list", "--load", "plug", "--only", "norm", env=NO_CANN, check=False)
    text = " ".join(done.stderr.split())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert text.startswith("Error: torch_npu 2.13.0 is installed, but CANN is not found")
    assert "`import torch` fails here" in text and "set TORCH_DEVICE_BACKEND_AUTOLOAD=0" in text


def test_import_of_vllm_stops_with_the_sentence(python: Any) -> None:
    code = "import ascend_overlay; ascend_overlay.enable(only=['norm'], load=['plug'])"
    done = python("-c", code, env=NO_CANN, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ascend_overlay.errors.ActivationError: torch_npu 2.13.0 is installed, but CANN is not")


def test_nothing_is_said_where_vllm_is_not_patched(python: Any) -> None:
    done = python.command("list", "--load", "plug", "--only", "other", "--json", env=NO_CANN)
    entries = json.loads(done.stdout)["entries"]
    assert [entry["state"] for entry in entries if not entry["machinery"]] == ["pending"]


VLLM, TORCH = "transformers, which vLLM imports, loads it all the same", "`import torch` fails here"
COMMANDS: dict[str, tuple[list[str], bool, str]] = {
    "list": (["list", "--load", "plug", "--only", "norm"], True, VLLM),
    "run": (["run", "--load", "plug", "--only", "norm", sys.executable, "-c", "import vllm.layers"], True, VLLM),
    "demo": (["demo"], True, VLLM),
    "quantize": (["quantize", "model", "out", "--scheme", "w8a8_dynamic"], False, TORCH),
}


@pytest.mark.parametrize("autoload", ["", "0"], ids=["loaded by torch", "not loaded by torch"])
@pytest.mark.parametrize(("command", "of_vllm", "why"), COMMANDS.values(), ids=COMMANDS)
def test_each_command_that_needs_it_says_so(
    command: list[str], of_vllm: bool, why: str, autoload: str, python: Any
) -> None:
    environment = {**NO_CANN, **({"TORCH_DEVICE_BACKEND_AUTOLOAD": autoload} if autoload else {})}
    done = python.command(*command, env=environment, check=False)
    text = " ".join(done.stderr.split())
    assert done.returncode
    if autoload and not of_vllm:
        # torch alone is enough for it: what it says is about the model.
        assert "CANN" not in text
        return
    assert "torch_npu 2.13.0 is installed, but CANN is not found" in text and "source CANN's set_env.sh first" in text
    assert (why if autoload else TORCH) in text


@pytest.mark.parametrize("command", [["ledger", "."], ["autoload", "status"]], ids=lambda command: command[0])
def test_what_needs_no_torch_goes_on(command: list[str], python: Any) -> None:
    done = python.command(*command, env=NO_CANN, check=False)
    assert "CANN" not in done.stdout + done.stderr


def test_without_strictness_it_is_a_warning(python: Any) -> None:
    done = python.command("list", "--load", "plug", "--only", "norm", "--no-strict", env=NO_CANN)
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in done.stderr and "pending" in done.stdout
