"""Calls that are like one that was checked and computed before, as those of the layers and steps of decoding are.

Such a call differs from that one in the content of its tensors and in the lengths of its sequences, so these are all
that has to be looked at. Whatever is out of the ordinary goes the long way, which has the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ascend_overlay.npu.reference.attention import layouts, single, tiles
from ascend_overlay.npu.reference.attention.band import Band, band_of, check_triangle
from ascend_overlay.npu.reference.attention.call import Call
from ascend_overlay.npu.reference.attention.stores import Paged, Store
from ascend_overlay.npu.reference.attention.strided import dense
from ascend_overlay.npu.reference.checks import alike, remember

_REMEMBERED = 256
_QUERIES = {"actual_seq_qlen", "actual_seq_lengths"}
_KEYS = {"actual_seq_kvlen", "actual_seq_lengths_kv"}
_LENGTHS = _QUERIES | _KEYS


def run(
    operator: str,
    version: Callable[..., Call],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return the result and softmax_lse.

    Args:
        operator: which one it is.
        version: makes a Call of its arguments.
        query: its argument, as are the others.
        key: likewise.
        value: likewise.
        options: those that are passed by name.

    Raises:
        RuntimeError: arguments that are refused.
    """
    query, key, value, options = dense(query, key, value, options)
    if key.dim() == tiles.DIMENSIONS and options.get("block_table") is not None:
        key, value, options = tiles.whole(operator, key, value, options)
    signature = _signature(version, query, key, value, options)
    form = _known.get(signature)
    if form is not None and (found := form.attend(query, key, value, options)) is not None:
        return found, torch.empty(0, dtype=torch.float32)
    call = version(query, key, value, **options)
    results = call.run()
    if form is None and _is_step_of_decoding(call):
        remember(_known, signature, _Form.of(call, options), _REMEMBERED)
    return results


def _signature(
    version: Callable[..., Call], query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]
) -> Any:
    """Return all that matters of a call, except for the lengths and the content of tensors."""
    others = [None if name in _LENGTHS else option for name, option in options.items()]
    return version, *options, *alike((query, key, value, *others))


def _is_step_of_decoding(call: Call) -> bool:
    """Tell whether each row of a call that was computed is the one query of a sequence in a paged cache."""
    if call.block_table is None or call.learnable_sink is not None or call.with_lse or not call.query.shape[0]:
        return False
    if layouts.LAYOUTS[call.input_layout][0] != "TND" or call.query_lengths != _ends(call.query.shape[0]):
        return False
    band = _band(call)
    # So each query sees one key at least.
    if band.before < 0 or band.after < 0:
        return False
    values, parts = call.stores("TND")
    return all(keys.like(values) for _, keys in parts)


def _band(call: Call) -> Band:
    return band_of(call.sparse_mode, call.pre_tokens, call.next_tokens, call.atten_mask)


def _ends(sequences: int) -> list[int]:
    return list(range(1, sequences + 1))


@dataclass(frozen=True, slots=True)
class _Form:
    """What steps of decoding of one signature have in common.

    Attributes:
        operator: the operator.
        queries: the name of the option that says where the queries of each sequence end;
        ends: what it says.
        keys: the name of the option that says how many keys each sequence has;
        most: how many it may have at most.
        block_size: tokens of a block.
        by_head: the heads come before the tokens in a block.
        heads: heads of keys and values.
        sizes: elements of a head of keys, of the rotated parts (0 for none), and of values.
        scale: factor of the scores.
        sparse_mode: the argument.
        band: what it stands for.
        returned: the layout of the result.
    """

    operator: str
    queries: str
    ends: list[int]
    keys: str
    most: int
    block_size: int
    by_head: bool
    heads: int
    sizes: tuple[int, int, int]
    scale: float
    sparse_mode: int
    band: Band
    returned: str

    @staticmethod
    def of(call: Call, options: Mapping[str, Any]) -> _Form:
        """Return the form of a step of decoding."""
        table = call.block_table
        assert table is not None
        values, parts = call.stores("TND")
        _, key = parts[0]
        return _Form(
            operator=call.operator,
            queries=next(iter(_QUERIES & set(options))),
            ends=_ends(call.query.shape[0]),
            keys=next(iter(_KEYS & set(options))),
            most=table.shape[1] * call.block_size,
            block_size=call.block_size,
            by_head=bool(values.block_size),
            heads=values.heads,
            sizes=(key.size, parts[1][1].size if len(parts) > 1 else 0, values.size),
            scale=call.scale,
            sparse_mode=call.sparse_mode,
            band=_band(call),
            returned=layouts.LAYOUTS[call.input_layout][1],
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> Tensor | None:
        """Return the result of a call of this form; None where its lengths are unusual."""
        lengths = options[self.keys]
        if options[self.queries] != self.ends or len(lengths) != len(self.ends):
            return None
        if min(lengths) < 1 or max(lengths) > self.most:
            return None
        if (mask := options.get("atten_mask")) is not None:
            check_triangle(self.operator, self.sparse_mode, mask)
        key_size, rope_size, value_size = self.sizes
        block_size = self.block_size if self.by_head else 0
        values = Store(value, self.heads, value_size, block_size)
        same = key_size == value_size and key.data_ptr() == value.data_ptr()
        parts = [(query, values if same else Store(key, self.heads, key_size, block_size))]
        if rope_size:
            parts.append((options["query_rope"], Store(options["key_rope"], self.heads, rope_size, block_size)))
        place = Paged(options["block_table"], self.block_size)
        found = single.attend(place, parts, values, self.scale, self.band, lengths)
        if found is None:
            return None
        return layouts.arrange(found.to(dtype=query.dtype), self.returned, 1, len(lengths))


_known: dict[Any, _Form] = {}
