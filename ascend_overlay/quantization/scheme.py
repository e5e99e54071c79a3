"""What a quantization scheme is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CheckpointTensor:
    """One tensor that a checkpoint holds for each projection of a linear layer.

    It becomes a parameter of the layer, under the same name. The projections of a fused layer (q_proj, k_proj and
    v_proj of qkv_proj) each have theirs in the checkpoint; they are loaded next to each other along `output_dim`.

    Attributes:
        name: the last part of its name: "weight_scale".
        shape: shape of the parameter on this rank. With neither `output_dim` nor `input_dim` it is that of one
            projection, of one element; the parameter is then (projections,).
        dtype: dtype of the parameter.
        output_dim: the dimension that runs along the outputs of the layer.
        input_dim: the dimension that runs along its inputs.
        accepts: further dtypes that the tensor may have in the checkpoint. Any floating dtype is accepted for a
            floating parameter.
        read: turns a tensor of one of these dtypes into one of `dtype`; default: a conversion of the numbers. A
            ValueError says what is wrong with it, to follow the name of the tensor.
        optional: the checkpoint may be without it. The parameter then holds zeros, and its name is in
            `Linear.absent`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    output_dim: int | None = None
    input_dim: int | None = None
    accepts: tuple[torch.dtype, ...] = ()
    read: Callable[[Tensor], Tensor] | None = None
    optional: bool = False


@dataclass(kw_only=True)
class Linear:
    """A linear layer, as far as a scheme has to know it.

    Attributes:
        name: its name in the model: "model.layers.0.self_attn.qkv_proj".
        projections: the modules of the checkpoint that it consists of: "model.layers.0.self_attn.q_proj" and so on.
        inputs: number of inputs on this rank.
        outputs: number of outputs on this rank, for each projection.
        dtype: dtype of the activations.
        adds_bias: whether this rank adds the bias. Where the inputs are spread over ranks and their results are added
            up, the first rank does.
        absent: optional tensors that the checkpoint did not have; known when `LinearScheme.process` is called.
    """

    name: str
    projections: tuple[str, ...]
    inputs: int
    outputs: tuple[int, ...]
    dtype: torch.dtype
    adds_bias: bool = True
    absent: frozenset[str] = field(default_factory=frozenset)


class LinearScheme(ABC):
    """How a linear layer of one quantization type is loaded and computed.

    One instance serves all layers, so it holds no state of a layer; that goes to the layer's attributes.
    """

    type: ClassVar[str]
    """The type's name in quant_model_description.json."""

    @abstractmethod
    def tensors(self, linear: Linear) -> Sequence[CheckpointTensor]:
        """Return what the checkpoint holds for the layer."""

    @abstractmethod
    def process(self, layer: Any, linear: Linear) -> None:
        """Bring the loaded parameters into the form that `apply` needs.

        Called once, when all are loaded and checked. Parameters may be replaced and deleted.

        Args:
            layer: the layer of vLLM, with the parameters as attributes.
            linear: what `tensors` was called with, and which optional tensors were absent.

        Raises:
            CheckpointError: the numbers are not usable; see `ascend_overlay.errors`.
        """

    @abstractmethod
    def apply(self, layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the outputs of the layer.

        Args:
            layer: the layer of vLLM.
            x: (..., inputs), in the dtype of the activations.
            bias: (outputs,), the layer's own bias, if this rank adds one.

        Returns:
            (..., outputs), in the dtype of `x`.
        """


@dataclass(frozen=True)
class ExpertsScheme:
    """How the routed experts of one quantization type are loaded and computed.

    Attributes:
        type: the type's name in quant_model_description.json.
        method: takes vLLM's RoutedExperts layer and its name, and returns a FusedMoEMethodBase.
    """

    type: str
    method: Callable[[Any, str], Any]
