"""Why an operator is not as on the CPU, or cannot be compared; each is held against what is seen."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .found import DEVICE, ONLY_NPU, OTHER_ERROR, ROUNDING, VALUES, Difference

_SMALL = r"at most by|[Aa]bsolute difference: (\S+e-\d\d|0\.0[0-3]\d*)\b"
"""What another order of sums gives in float16 and bfloat16, more than PyTorch's tolerances by little."""

WITHOUT_CONTENT = frozenset(
    {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
)
"""What their results hold is not promised; all else of these is compared."""

NOT_COMPARED = {
    "PyTorch has it for CUDA only": (
        *("jiterator_2inputs_2outputs", "jiterator_4inputs_with_extra_args", "jiterator_binary"),
        *("jiterator_binary_return_by_ref", "jiterator_unary", "nn.functional.batch_norm.without_cudnn"),
        *("torch.ops.aten._efficient_attention_forward", "torch.ops.aten._flash_attention_forward"),
    ),
}
"""Operators of which no call returns, neither on the CPU nor on the NPU, by reason."""


@dataclass(frozen=True)
class Reason:
    """Why calls of some operators are not as on the CPU.

    Attributes:
        why: a sentence for the page, without a full stop.
        operators: that have such calls.
        kinds: of their differences.
        seen: a pattern that the detail of each of these differences has.
        by_chance: a run may have none of these differences.
    """

    why: str
    operators: tuple[str, ...]
    kinds: tuple[str, ...]
    seen: str
    by_chance: bool = False

    def explains(self, name: str, difference: Difference) -> bool:
        """Tell whether a difference of an operator is one of these."""
        return (
            name in self.operators
            and difference.kind in self.kinds
            and re.search(self.seen, difference.detail) is not None
        )


REASONS = (
    Reason(
        "torch_npu makes tensors in the contiguous format only, and refuses `memory_format=torch.channels_last` here",
        (
            *("bfloat16", "bool", "byte", "cdouble", "cfloat", "chalf", "char"),
            *("double", "float", "half", "int", "long", "short"),
        ),
        (ONLY_NPU,),
        "Only c10::MemoryFormat::Contiguous is supported for creating a npu tensor",
    ),
    Reason(
        "there are no kernels for sparse tensors here",
        ("sparse.mm.reduce", "sparse.sampled_addmm"),
        (ONLY_NPU, OTHER_ERROR),
        "from the 'SparseCsrnpu' backend",
    ),
    Reason(
        "there are no kernels for sparse tensors here",
        ("to_sparse",),
        (ONLY_NPU,),
        "software NPU: a result is a Sparse tensor",
    ),
    Reason(
        "`conj_physical_`, of which it is made for complex numbers, has PyTorch ask the device for a kernel by its own "
        "table, in which torch_npu has none",
        ("conj_physical", "svd"),
        (ONLY_NPU,),
        "DispatchStub: missing kernel for npu",
    ),
    Reason(
        "with `out`, PyTorch itself allows CPU, CUDA and XPU only",
        ("mode",),
        (ONLY_NPU,),
        r"mode only supports CPU, CUDA and XPU device type",
    ),
    Reason(
        "PyTorch itself wants the indices in a tensor of the CPU",
        ("tensor_split",),
        (ONLY_NPU,),
        "expected tensor_indices_or_sections to be on cpu",
    ),
    Reason("one sample names no device", ("arange",), (DEVICE,), "a result on cpu"),
    Reason(
        "in float16 and bfloat16, PyTorch accumulates in float32 on the CPU, and not on devices that it does not know",
        ("nn.functional.linear_cross_entropy.chunked", "nn.functional.linear_cross_entropy.chunked_none"),
        (ROUNDING, VALUES),
        _SMALL,
    ),
    Reason(
        "PyTorch has a fused kernel on the CPU, and makes it of products and a softmax elsewhere",
        ("nn.functional.scaled_dot_product_attention",),
        (ROUNDING, VALUES),
        _SMALL,
    ),
    Reason(
        "LAPACK's `gelsy` gives other last bits from one call to the next, on the CPU as well",
        ("linalg.lstsq", "linalg.lstsq.grad_oriented"),
        (ROUNDING,),
        "at most by",
        by_chance=True,
    ),
)
