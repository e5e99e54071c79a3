"""torch_npu installed where CANN is not: said before `import torch` fails, with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "LD_LIBRARY_PATH", "TORCH_DEVICE_BACKEND_AUTOLOAD")


@pytest.fixture
def torch_npu(site: Any, python: Any) -> Any:
    """A torch_npu that is installed, and no trace of CANN."""
    site.write({"torch_npu/__init__.py": "raise ImportError('libhccl.so: cannot open shared object file')"})
    site.distribution("torch_npu", "2.13.0")
    for name in VARIABLES:
        python.environment.pop(name, None)
    return site


def _diagnosis(python: Any, env: dict[str, str] | None = None) -> str:
    code = "from ascend_overlay import availability as a; import sys; print(a.diagnosis()); assert 'torch' not in "
    return str(python("-c", f"{code}sys.modules", env=env).stdout.strip())


def test_without_torch_npu_there_is_nothing_to_say(python: Any) -> None:
    assert _diagnosis(python) == "None"


def test_the_sentence_names_version_cause_and_both_ways_out(torch_npu: Any, python: Any) -> None:
    text = _diagnosis(python)
    assert "torch_npu 2.13.0 is installed, but CANN is not found" in text
    assert "set_env.sh" in text
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in text


def test_with_autoload_off_torch_imports_and_vllm_does_not(torch_npu: Any, python: Any) -> None:
    text = _diagnosis(python, {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    assert "but transformers, which vLLM imports, loads it all the same" in text and "Or set" not in text
    assert f"; torch_npu is in {torch_npu.folder}/torch_npu)" in text
    assert "installed" in _diagnosis(python, {"TORCH_DEVICE_BACKEND_AUTOLOAD": "1"})
    code = "from ascend_overlay import availability as a; print(a.diagnosis(of_vllm=False))"
    done = python("-c", code, env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize("module", ["object()", "None"])
def test_where_torch_npu_is_loaded_or_kept_out_there_is_nothing_to_say(
    module: str, torch_npu: Any, python: Any
) -> None:
    code = f"import sys; sys.modules['torch_npu'] = {module}; from ascend_overlay import availability as a"
    done = python("-c", f"{code}; print(a.diagnosis())", env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize(
    ("variable", "below"),
    [("LD_LIBRARY_PATH", "."), ("ASCEND_HOME_PATH", "lib64"), ("ASCEND_TOOLKIT_HOME", "runtime/lib64")],
)
def test_cann_is_found_where_the_loader_looks(
    torch_npu: Any, python: Any, tmp_path: Path, variable: str, below: str
) -> None:
    library = tmp_path / "cann" / below / "libascendcl.so"
    library.parent.mkdir(parents=True)
    assert "installed" in _diagnosis(python, {variable: str(tmp_path / "cann")})
    library.touch()
    assert _diagnosis(python, {variable: str(tmp_path / "cann")}) == "None"


def test_enable_says_it_before_vllm_dies_of_it(torch_npu: Any, python: Any) -> None:
    torch_npu.vllm("0.32.0")
    code = "import ascend_overlay; ascend_overlay.enable(only=['roles'], strict={strict}); print('enabled')"
    strict = python("-c", code.format(strict=True), check=False)
    assert strict.returncode == 1
    assert (
        "ascend_overlay.errors.ActivationError: torch_npu 2.13.0 is installed, but CANN is not found" in strict.stderr
    )
    lenient = python("-W", "always", "-c", code.format(strict=False), check=False)
    assert "RuntimeWarning: torch_npu 2.13.0 is installed, but CANN is not found" in lenient.stderr
    off = python("-c", code.format(strict=True), env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}, check=False)
    assert "so vLLM cannot be imported here. On a machine with an NPU" in off.stderr


def test_what_it_warns_of_is_so(torch_npu: Any, python: Any) -> None:
    """The real torch, and a torch_npu whose libraries are missing: the import that vLLM begins with fails."""
    entry = Path(torch_npu.folder) / "torch_npu-2.13.0.dist-info" / "entry_points.txt"
    entry.write_text("[torch.backends]\ntorch_npu = torch_npu:_autoload\n")
    failed = python("-c", "import torch", check=False)
    assert failed.returncode == 1
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in failed.stderr
    python("-c", "import torch", env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
