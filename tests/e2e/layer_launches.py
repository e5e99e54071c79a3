"""What a layer of a model asks of the software NPU in this process, and what vLLM asks around the model."""

from __future__ import annotations

from typing import Any


class Counted:
    """Counts what the last layer of a runner's model launches, what the forward waits for, and what is around that.

    Attributes:
        launched: by that layer, in each forward.
        waited: the host, in each forward.
        around: launches of each step outside its forward, but for the choice of the tokens.
    """

    def __init__(self, runner: Any) -> None:
        model = runner.model
        from ascend_overlay.npu.software import install

        native: Any = install.native()
        native.count()
        self.launched: list[int] = []
        self.waited: list[int] = []
        around(model.model.layers[-1], lambda: _launches(native), self.launched)
        around(model, lambda: sum(native.waits().values()), self.waited)
        self.around: list[int] = []
        forwards: list[int] = []
        around(model, lambda: _launches(native), forwards)
        execute = runner.execute_model

        def counting(*args: Any, **kwargs: Any) -> Any:
            before, known = _launches(native), len(forwards)
            result = execute(*args, **kwargs)
            if len(forwards) > known:
                self.around.append(_launches(native) - before - forwards[-1])
            return result

        runner.execute_model = counting


def around(module: Any, number: Any, found: list[int]) -> None:
    """Append to `found` by how much `number` grows while `module` is run."""
    began: list[int] = []
    module.register_forward_pre_hook(lambda *_: began.append(number()))
    module.register_forward_hook(lambda *_: found.append(number() - began.pop()))


def _launches(native: Any) -> int:
    from ascend_overlay.npu.software.launches import launches

    return sum(launches(native.counts()).values())
