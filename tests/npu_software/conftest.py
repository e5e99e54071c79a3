"""The genuine torch_npu on the software NPU, in processes of their own: one for each file of cases."""

from __future__ import annotations

import pytest
from downloads import for_the_software_npu
from software_kit import Software

from ascend_overlay.npu.genuine.source import TorchNpu


@pytest.fixture(scope="session")
def genuine() -> TorchNpu:
    """A torch_npu that is fetched where it is not installed, and a compiler; see `downloads` where one is missing."""
    return for_the_software_npu()


@pytest.fixture(scope="session")
def software(tmp_path_factory: pytest.TempPathFactory, genuine: TorchNpu) -> Software:
    """Processes with the software NPU."""
    return Software(tmp_path_factory.mktemp("software"), genuine.folder)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, software: Software) -> dict[str, str | None]:
    """What became of the cases of the file that the test module names in CASES."""
    return software.results(request.module.CASES, **getattr(request.module, "OPTIONS", {}))
