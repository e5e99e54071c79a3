"""npu_fused_infer_attention_score and its second version: attention over new and cached tokens, for inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.attention import repeated
from ascend_overlay.npu.reference.attention.band import UNLIMITED
from ascend_overlay.npu.reference.attention.call import Call
from ascend_overlay.npu.reference.checks import contiguous, refuse

_FIRST, _SECOND = "npu_fused_infer_attention_score", "npu_fused_infer_attention_score_v2"
_OUT = f"{_SECOND}.out"
_SOURCE = (
    "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN's source of FusedInferAttentionScore "
    "(strides)"
)


def npu_fused_infer_attention_score(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Return ``softmax(scale * query @ key + mask) @ value``; see npu_fused_infer_attention_score_v2.

    The first version has other names for some arguments: `actual_seq_lengths` and `actual_seq_lengths_kv` for
    `actual_seq_qlen` and `actual_seq_kvlen`, `num_heads` for `num_query_heads`, `scale` for `softmax_scale`,
    `softmax_lse_flag` for `return_softmax_lse`. It has no `learnable_sink`.
    """
    return repeated.run(_FIRST, _first, query, key, value, options)


def npu_fused_infer_attention_score_v2(
    query: Tensor, key: Tensor, value: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """Return ``softmax(softmax_scale * query @ key + mask) @ value`` for each head of each sequence.

    Args:
        query: in the first layout that `input_layout` names; float16 or bfloat16. With any strides, as all tensors:
            torch_npu documents contiguous ones, and CANN copies others before it computes.
        key: in the same layout; with `block_table`, a cache: (blocks, block size, N * D) or, unless the layout is BSH
            or BSND, (blocks, N, block size, D), or, unless it is BNSD, in NZ: (blocks, N, D / 16, block size, 16). For
            the last, the meta kernel of torch_npu 2.13 has a shape, and its text names latent attention only.
        value: as `key`, with heads of its own size. May be the same tensor.
        query_rope: as `query`, with heads of another size, whose products with `key_rope` are added to the scores.
        key_rope: as `key`, likewise.
        atten_mask: bool, int8 or uint8, not 0 where hidden. sparse_mode 0 and 1: (B or 1, 1, queries, keys), or
            without the leading ones; sparse_mode 2 to 4: (2048, 2048), 1 above the diagonal, whatever the lengths.
        actual_seq_qlen: packed layouts (T): where the queries of each sequence end, the last at T; others: how many
            queries each sequence has, or one number for all; None: all that the tensor has.
        actual_seq_kvlen: likewise for the keys; with `block_table`, the number of keys of each sequence in all layouts.
        block_table: (B, blocks) of int32: the blocks of each sequence, in order. Those behind its last key are not
            looked at.
        learnable_sink: (num_query_heads,) of bfloat16: a score beside those of the keys, without a value; TND and
            NTD_TND only, and values of 64 or 128 elements.
        num_query_heads: heads of the queries.
        num_key_value_heads: heads of the keys, of which each serves num_query_heads / num_key_value_heads heads; 0: as
            many.
        softmax_scale: factor of the scores.
        pre_tokens: sparse_mode 4, and 0 with a mask: keys before the diagonal that a query sees.
        next_tokens: likewise, after the diagonal.
        input_layout: see layouts.py.
        sparse_mode: 0: what the mask says, or everything; 1: likewise, without `pre_tokens` and `next_tokens`; 2:
            causal, the first query at the first key; 3: causal, the last query at the last key; 4: from
            `pre_tokens` before to `next_tokens` after that diagonal. Packed layouts take 0 without mask, 3 and 4.
            A query that is alone in a layout with S, and has no rope, sees everything that the mask allows.
        block_size: tokens of a block: 128, 256, 384 or 512; multiples of 16 where no sequence has several queries;
            16, 64 or 128 with rope.
        inner_precise: 0 to 3; makes no difference here.
        return_softmax_lse: whether the second result is wanted.
        **options: the other arguments of the schema, which are about quantization and position codes; left out.

    Returns:
        attention_out: dtype of `query`, heads of the size of those of `value`; 0 for a query that sees no key, and for
            rows behind actual_seq_qlen.
        softmax_lse: log of the sum of the exponentials of the scores, float32: (T, N, 1), or (B, N, S, 1); of no
            elements if not wanted. -inf for a query that sees no key, by the formula; torch_npu leaves it open.

    Raises:
        RuntimeError: arguments that torch_npu documents as unsupported, or that are not computed here. Documented
            limits that contradict themselves, or what is known to run, are not enforced: the layout TND is documented
            for heads of 64, 128 and 192 elements, where recent versions of CANN compute others up to 256, for bfloat16
            and without `block_table`.
    """
    return repeated.run(_SECOND, _second, query, key, value, options)


def npu_fused_infer_attention_score_v2_out(
    query: Tensor, key: Tensor, value: Tensor, *, out: Sequence[Tensor], workspace: Tensor | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Write what npu_fused_infer_attention_score_v2 returns to `out`.

    Args:
        query: as there, as is all that is not named here.
        key: likewise.
        value: likewise.
        out: attention_out and softmax_lse, of the shapes and dtypes that they have there; contiguous. What is given for
            softmax_lse is not looked at unless `return_softmax_lse` asks for it.
        workspace: what _npu_fused_infer_attention_score_v2_get_max_workspace returns: room for a captured graph to
            compute in; not needed elsewhere, and nothing here.

    Returns:
        `out`.

    Raises:
        RuntimeError: see there, or something else in `out`.
    """
    targets = _targets(out)
    for name, target, made in zip(
        ("attention_out", "softmax_lse"),
        targets,
        npu_fused_infer_attention_score_v2(query, key, value, **options),
        strict=True,
    ):
        if name == "softmax_lse" and not options.get("return_softmax_lse"):
            continue
        if target.shape != made.shape or target.dtype != made.dtype:
            text = f"{name} is {tuple(target.shape)} of {target.dtype}"
            refuse(_OUT, f"{text}; what is written to it is {tuple(made.shape)} of {made.dtype}.")
        contiguous(_OUT, name, target)
        target.copy_(made)
    return targets


def _targets(out: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    if len(out) != 2:
        refuse(_OUT, f"out has {len(out)} tensors; it takes two, attention_out and softmax_lse.")
    return out[0], out[1]


def _fake_out(query: Tensor, key: Tensor, value: Tensor, *, out: Sequence[Tensor], **options: Any) -> Any:
    return _targets(out)


def _fake_first(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    return _first(query, key, value, **options).fake()


def _fake_second(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    return _second(query, key, value, **options).fake()


def _first(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    atten_mask: Tensor | None = None,
    actual_seq_lengths: Sequence[int] | None = None,
    actual_seq_lengths_kv: Sequence[int] | None = None,
    block_table: Tensor | None = None,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    num_heads: int = 1,
    scale: float = 1.0,
    pre_tokens: int = UNLIMITED,
    next_tokens: int = UNLIMITED,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    sparse_mode: int = 0,
    inner_precise: int = 0,
    block_size: int = 0,
    softmax_lse_flag: bool = False,
    **unsupported: Any,
) -> Call:
    return Call(
        operator=_FIRST,
        query=query,
        key=key,
        value=value,
        query_rope=query_rope,
        key_rope=key_rope,
        atten_mask=atten_mask,
        query_lengths=actual_seq_lengths,
        key_lengths=actual_seq_lengths_kv,
        block_table=block_table,
        block_size=block_size,
        learnable_sink=None,
        heads=num_heads,
        kv_heads=num_key_value_heads,
        scale=scale,
        pre_tokens=pre_tokens,
        next_tokens=next_tokens,
        input_layout=input_layout,
        sparse_mode=sparse_mode,
        inner_precise=inner_precise,
        with_lse=softmax_lse_flag,
        unsupported=unsupported,
    )


def _second(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    atten_mask: Tensor | None = None,
    actual_seq_qlen: Sequence[int] | None = None,
    actual_seq_kvlen: Sequence[int] | None = None,
    block_table: Tensor | None = None,
    learnable_sink: Tensor | None = None,
    num_query_heads: int = 1,
    num_key_value_heads: int = 0,
    softmax_scale: float = 1.0,
    pre_tokens: int = UNLIMITED,
    next_tokens: int = UNLIMITED,
    input_layout: str = "BSH",
    sparse_mode: int = 0,
    block_size: int = 0,
    inner_precise: int = 0,
    return_softmax_lse: bool = False,
    **unsupported: Any,
) -> Call:
    return Call(
        operator=_SECOND,
        query=query,
        key=key,
        value=value,
        query_rope=query_rope,
        key_rope=key_rope,
        atten_mask=atten_mask,
        query_lengths=actual_seq_qlen,
        key_lengths=actual_seq_kvlen,
        block_table=block_table,
        block_size=block_size,
        learnable_sink=learnable_sink,
        heads=num_query_heads,
        kv_heads=num_key_value_heads,
        scale=softmax_scale,
        pre_tokens=pre_tokens,
        next_tokens=next_tokens,
        input_layout=input_layout,
        sparse_mode=sparse_mode,
        inner_precise=inner_precise,
        with_lse=return_softmax_lse,
        unsupported=unsupported,
    )


_ARGUMENTS_OF_V2 = (
    "Tensor query, Tensor key, Tensor value, *, "
    "Tensor? query_rope=None, Tensor? key_rope=None, Tensor? pse_shift=None, Tensor? atten_mask=None, "
    "SymInt[]? actual_seq_qlen=None, SymInt[]? actual_seq_kvlen=None, Tensor? block_table=None, "
    "Tensor? dequant_scale_query=None, Tensor? dequant_scale_key=None, Tensor? dequant_offset_key=None, "
    "Tensor? dequant_scale_value=None, Tensor? dequant_offset_value=None, "
    "Tensor? dequant_scale_key_rope=None, Tensor? quant_scale_out=None, Tensor? quant_offset_out=None, "
    "Tensor? quant_scale_p=None, Tensor? learnable_sink=None, int num_query_heads=1, "
    "int num_key_value_heads=0, float softmax_scale=1., int pre_tokens=2147483647, "
    'int next_tokens=2147483647, str input_layout="BSH", int sparse_mode=0, int block_size=0, '
    "int query_quant_mode=0, int key_quant_mode=0, int value_quant_mode=0, int inner_precise=0, "
    "bool return_softmax_lse=False, int? query_dtype=None, int? key_dtype=None, int? value_dtype=None, "
    "int? query_rope_dtype=None, int? key_rope_dtype=None, int? key_shared_prefix_dtype=None, "
    "int? value_shared_prefix_dtype=None, int? dequant_scale_query_dtype=None, "
    "int? dequant_scale_key_dtype=None, int? dequant_scale_value_dtype=None, "
    "int? dequant_scale_key_rope_dtype=None, int? out_dtype=None"
)

KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_fused_infer_attention_score(Tensor query, Tensor key, Tensor value, *, Tensor? pse_shift=None, "
            "Tensor? atten_mask=None, SymInt[]? actual_seq_lengths=None, SymInt[]? actual_seq_lengths_kv=None, "
            "Tensor? dequant_scale1=None, Tensor? quant_scale1=None, Tensor? dequant_scale2=None, "
            "Tensor? quant_scale2=None, Tensor? quant_offset2=None, Tensor? antiquant_scale=None, "
            "Tensor? antiquant_offset=None, Tensor? key_antiquant_scale=None, Tensor? key_antiquant_offset=None, "
            "Tensor? value_antiquant_scale=None, Tensor? value_antiquant_offset=None, Tensor? block_table=None, "
            "Tensor? query_padding_size=None, Tensor? kv_padding_size=None, Tensor? key_shared_prefix=None, "
            "Tensor? value_shared_prefix=None, SymInt[]? actual_shared_prefix_len=None, Tensor? query_rope=None, "
            "Tensor? key_rope=None, Tensor? key_rope_antiquant_scale=None, int num_heads=1, float scale=1., "
            'int pre_tokens=2147483647, int next_tokens=2147483647, str input_layout="BSH", '
            "int num_key_value_heads=0, int sparse_mode=0, int inner_precise=0, int block_size=0, "
            "int antiquant_mode=0, int key_antiquant_mode=0, int value_antiquant_mode=0, "
            "bool softmax_lse_flag=False) -> (Tensor, Tensor)"
        ),
        cpu=npu_fused_infer_attention_score,
        fake=_fake_first,
        source=_SOURCE,
    ),
    ReferenceKernel(
        schema=f"npu_fused_infer_attention_score_v2({_ARGUMENTS_OF_V2}) -> (Tensor, Tensor)",
        cpu=npu_fused_infer_attention_score_v2,
        fake=_fake_second,
        source=_SOURCE,
    ),
    ReferenceKernel(
        schema=f"{_OUT}({_ARGUMENTS_OF_V2}, Tensor? workspace=None, Tensor[] out) -> (Tensor, Tensor)",
        cpu=npu_fused_infer_attention_score_v2_out,
        fake=_fake_out,
        source=_SOURCE,
        undeclared_writes=("out",),
    ),
)
