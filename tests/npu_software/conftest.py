"""The genuine torch_npu on the software NPU, in processes of their own: one for each file of cases."""

from __future__ import annotations

import shutil

import pytest
from downloads import unavailable
from software_kit import Software

from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.genuine import source
from ascend_overlay.npu.schemas import HOME as RELEASE
from ascend_overlay.npu.software import build


@pytest.fixture(scope="session")
def software(tmp_path_factory: pytest.TempPathFactory) -> Software:
    """A torch_npu that is fetched where it is not installed, and a compiler; see `downloads` where one is missing."""
    try:
        found = source.find() or source.find(RELEASE)
    except ConfigError as error:
        unavailable(str(error))
    assert found is not None
    for tool in build.TOOLS:
        if shutil.which(tool) is None:
            unavailable(f"{tool} is not there to build the software NPU.")
    return Software(tmp_path_factory.mktemp("software"), found.folder)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, software: Software) -> dict[str, str | None]:
    """What became of the cases of the file that the test module names in CASES."""
    return software.results(request.module.CASES, **getattr(request.module, "OPTIONS", {}))
