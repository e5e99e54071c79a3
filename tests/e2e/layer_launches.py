"""What a layer of a model asks of the software NPU in this process, whenever it is run."""

from __future__ import annotations

from typing import Any


class Counted:
    """Counts what the last layer of `model` launches, and what its whole forward waits for.

    Attributes:
        launched: by that layer, in each forward.
        waited: the host, in each forward.
    """

    def __init__(self, model: Any) -> None:
        from ascend_overlay.npu.software import install

        native: Any = install.native()
        native.count()
        self.launched: list[int] = []
        self.waited: list[int] = []
        around(model.model.layers[-1], lambda: _launches(native), self.launched)
        around(model, lambda: sum(native.waits().values()), self.waited)


def around(module: Any, number: Any, found: list[int]) -> None:
    """Append to `found` by how much `number` grows while `module` is run."""
    began: list[int] = []
    module.register_forward_pre_hook(lambda *_: began.append(number()))
    module.register_forward_hook(lambda *_: found.append(number() - began.pop()))


def _launches(native: Any) -> int:
    from ascend_overlay.npu.software.launches import launches

    return sum(launches(native.counts()).values())
