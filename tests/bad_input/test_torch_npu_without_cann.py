"""torch_npu without CANN: `import torch` itself fails, and the message names the way out before it does."""

from __future__ import annotations

import json
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
    assert last.startswith(
        "ascend_overlay.errors.ActivationError: torch_npu 2.13.0 is installed, but CANN is not found"
    )


@pytest.mark.parametrize(
    ("environment", "only"),
    [({"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}, "norm"), ({}, "other")],
    ids=["with the way out", "where vLLM is not patched"],
)
def test_nothing_is_said_where_nothing_fails(python: Any, environment: dict[str, str], only: str) -> None:
    done = python.command("list", "--load", "plug", "--only", only, "--json", env={**NO_CANN, **environment})
    entries = json.loads(done.stdout)["entries"]
    assert [entry["state"] for entry in entries if not entry["machinery"]] == ["pending"]


def test_without_strictness_it_is_a_warning(python: Any) -> None:
    done = python.command("list", "--load", "plug", "--only", "norm", "--no-strict", env=NO_CANN)
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in done.stderr and "pending" in done.stdout
