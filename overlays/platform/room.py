"""What does not fit into an NPU's memory, in a sentence that says what can be smaller."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ascend_overlay.errors import ConfigError

_Method = TypeVar("_Method", bound=Callable[..., Any])


def needs_room(what: str, instead: str) -> Callable[[_Method], _Method]:
    """Return a decorator for a method of a worker.

    Args:
        what: what needs memory there, the subject of the sentence.
        instead: what the user can do.
    """

    def decorated(method: _Method) -> _Method:
        @functools.wraps(method)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except torch.OutOfMemoryError as error:
                said = " ".join(str(error).split())
                raise ConfigError(
                    f"on the NPU platform, {what} does not fit into the memory of {self.device}: {instead}. torch_npu "
                    f"says: {said}"
                ) from error

        return wrapper  # type: ignore[return-value]

    return decorated
