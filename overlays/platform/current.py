"""The current stream, of which vLLM keeps a record of its own."""

from __future__ import annotations

from typing import Any

import torch
from vllm.utils import torch_utils

_npu: Any = torch.npu  # type: ignore[attr-defined, unused-ignore]


class Current:
    """torch.npu.stream(), with vLLM's record: its current_stream() answers from a note that torch.cuda alone writes.

    vLLM captures its graphs on what current_stream() says; the default stream, which torch_npu refuses, if that is old.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._context = stream, _npu.stream(stream)

    def __enter__(self) -> None:
        self._context.__enter__()
        self._before = getattr(torch_utils._current_stream_tls, "value", None)
        if self._stream is not None:
            torch_utils._current_stream_tls.value = self._stream

    def __exit__(self, *error: Any) -> None:
        torch_utils._current_stream_tls.value = self._before
        self._context.__exit__(*error)
