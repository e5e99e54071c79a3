"""One implementation behind every method that vLLM may pick for a layer."""

from __future__ import annotations

from torch import Tensor


class OneForward:
    """Has the methods for a platform do what `forward_native` does.

    vLLM picks one of three when a layer is built: `forward_native` where custom operators are off, as under Inductor,
    `forward_cpu` on the CPU platform, `forward_oot` on an NPU's. To be named before the class of vLLM.
    """

    def forward_native(self, x: Tensor) -> Tensor:
        """See the class that this one is mixed into."""
        raise NotImplementedError

    def forward_cpu(self, x: Tensor) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x)

    def forward_oot(self, x: Tensor) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x)
