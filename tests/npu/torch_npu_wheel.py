"""The genuine torch_npu for the tests of this folder; see ascend_overlay.npu.genuine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from downloads import unavailable

from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.genuine import process, source
from ascend_overlay.npu.genuine.source import TorchNpu
from ascend_overlay.npu.schemas import HOME as VERSION

__all__ = ["VERSION", "TorchNpu", "fetched", "prepared"]


def fetched(release: str = VERSION) -> TorchNpu:
    """Return a release; see `downloads` for where it cannot be downloaded."""
    try:
        found = source.find(release)
    except ConfigError as error:
        unavailable(str(error))
    assert found is not None
    return found


@contextlib.contextmanager
def prepared(torch_npu: TorchNpu) -> Iterator[dict[str, str]]:
    """Yield the variables of a process that calls import_torch_npu(); see `downloads` for where a tool is missing."""
    with contextlib.ExitStack() as stack:
        try:
            variables = stack.enter_context(process.prepared(torch_npu))
        except ConfigError as error:
            unavailable(str(error))
        yield variables
