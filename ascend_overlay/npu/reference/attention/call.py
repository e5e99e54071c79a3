"""What both versions of npu_fused_infer_attention_score do with their arguments: check, read, compute, arrange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ascend_overlay.npu.reference.attention import latent, layouts
from ascend_overlay.npu.reference.attention.band import band_of, check_compressed_mask, full_mask
from ascend_overlay.npu.reference.attention.softmax import Attention, Sequences
from ascend_overlay.npu.reference.attention.stores import Packed, Paged, Store
from ascend_overlay.npu.reference.checks import refuse

_DTYPES = (torch.float16, torch.bfloat16)
_MASKS = (torch.bool, torch.int8, torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of npu_fused_infer_attention_score or of its second version, under the names of the second.

    Tensors are contiguous: see strided.py. `unsupported` has the arguments that the reference kernel does not compute.
    """

    operator: str
    query: Tensor
    key: Tensor
    value: Tensor
    query_rope: Tensor | None
    key_rope: Tensor | None
    atten_mask: Tensor | None
    query_lengths: Sequence[int] | None
    key_lengths: Sequence[int] | None
    block_table: Tensor | None
    block_size: int
    learnable_sink: Tensor | None
    heads: int
    kv_heads: int
    scale: float
    pre_tokens: int
    next_tokens: int
    input_layout: str
    sparse_mode: int
    inner_precise: int
    with_lse: bool
    unsupported: dict[str, Any]

    def shapes(self) -> tuple[list[int], list[int]]:
        """Return the shapes of the result and of softmax_lse."""
        if self.heads <= 0:
            refuse(self.operator, f"the number of query heads is {self.heads}; it must be positive.")
        given, returned = layouts.parse(self.operator, self.input_layout, self.query)
        batch, length, heads, size = layouts.sizes(given, self.query.shape, self.heads)
        value_size = self._value_size(given)
        if not value_size or not size:
            value_size = size
        lse = layouts.lse_shape(given, batch, length, heads) if self.with_lse else [0]
        return layouts.result_shape(returned, batch, length, heads, value_size), lse

    def fake(self) -> tuple[Tensor, Tensor]:
        """Return results without content."""
        out, lse = self.shapes()
        return layouts.empty(self.query, out), layouts.empty(self.query, lse, torch.float32)

    def run(self) -> tuple[Tensor, Tensor]:
        """Return the result and softmax_lse."""
        self._check()
        given, returned = layouts.parse(self.operator, self.input_layout, self.query)
        batch, length, _, _ = layouts.sizes(given, self.query.shape, self.heads)
        starts, queries, keys = self._lengths(given)
        if self.query_rope is not None and self._latent(given):
            latent.check(
                self.operator,
                heads=self.heads,
                kv_heads=self._kv_heads,
                rope=self.query_rope,
                rope_heads=self.heads if given == "BSH" else 1,
                block_table=self.block_table,
                queries=queries,
                sparse_mode=self.sparse_mode,
                mask=self.atten_mask,
            )
        mask = self._mask(given, queries, keys)
        # A single query sees every key, where it is one by the layout and has no rope.
        single = not layouts.packed(given) and length == 1 and self.query_rope is None
        band = band_of(0 if single else self.sparse_mode, self.pre_tokens, self.next_tokens, None if single else mask)
        values, parts = self.stores(given)
        attention = Attention(
            place=self._place(given, keys),
            parts=parts,
            values=values,
            scale=self.scale,
            band=band,
            mask=mask if self.sparse_mode in (0, 1) else None,
            sink=self.learnable_sink,
            with_lse=self.with_lse,
        )
        out, lse = attention.run(Sequences(starts, queries, keys), self._value_size(given))
        out = layouts.arrange(out.to(self.query.dtype), returned, batch, length)
        return out, layouts.arrange_lse(lse, given, batch, length) if self.with_lse else lse

    def stores(self, layout: str) -> tuple[Store, list[tuple[Tensor, Store]]]:
        """Return the values, and the parts of queries and keys, as Attention takes them; the arguments are checked."""
        values = self._store(self.value, layout)
        same = self.key.data_ptr() == self.value.data_ptr() and self.key.shape == self.value.shape
        keys = values if same else self._store(self.key, layout)
        parts = [(layouts.rows(self.query, layout, self.heads), keys)]
        if self.query_rope is not None and self.key_rope is not None:
            rope = layouts.rows(self.query_rope, layout, self.heads)
            parts.append((rope, self._store(self.key_rope, layout)))
        return values, parts

    @property
    def _kv_heads(self) -> int:
        return self.kv_heads or self.heads

    def _value_size(self, layout: str) -> int:
        """Return D of the values."""
        if self.block_table is None:
            if self.value.dim() != self.query.dim():
                text = f"value has {self.value.dim()} dimensions and query {self.query.dim()}"
                refuse(self.operator, f"{text}; without block_table they have as many.")
            return layouts.sizes(layout, self.value.shape, self._kv_heads)[3]
        if self.value.dim() not in (3, 4, 5):
            text = f"value has {self.value.dim()} dimensions; with block_table it is (blocks, block size, N * D),"
            refuse(self.operator, f"{text} (blocks, N, block size, D) or (blocks, N, D / 16, block size, 16).")
        if self.value.dim() == 5:
            return self.value.shape[2] * self.value.shape[4]
        return self.value.shape[2] // self._kv_heads if self.value.dim() == 3 else self.value.shape[3]

    def _store(self, tensor: Tensor, layout: str) -> Store:
        heads = self._kv_heads
        if self.block_table is None:
            rows = layouts.rows(tensor, layout, heads)
            return Store(rows, heads, rows.shape[2])
        if tensor.dim() == 3:
            return Store(tensor, heads, tensor.shape[2] // heads)
        return Store(tensor, heads, tensor.shape[3], block_size=self.block_size)

    def _place(self, layout: str, keys: Sequence[int]) -> Packed | Paged:
        if self.block_table is not None:
            return Paged(self.block_table, self.block_size)
        if layouts.packed(layout):
            starts = list(accumulate(keys, initial=0))[:-1]
        else:
            length = layouts.sizes(layout, self.key.shape, self._kv_heads)[1]
            starts = [i * length for i in range(len(keys))]
        return Packed(torch.tensor(starts, dtype=torch.int64))

    def _lengths(self, layout: str) -> tuple[list[int], list[int], list[int]]:
        """Return the first row of each sequence's queries, and how many queries and keys it has."""
        batch, length, _, _ = layouts.sizes(layout, self.query.shape, self.heads)
        names = ("actual_seq_lengths", "actual_seq_lengths_kv")
        if self.operator.endswith("_v2"):
            names = ("actual_seq_qlen", "actual_seq_kvlen")
        if layouts.packed(layout):
            queries = self._differences(names[0], self.query_lengths, length)
            starts = list(accumulate(queries, initial=0))[:-1]
            batch = len(queries)
        else:
            queries = self._each(names[0], self.query_lengths, batch, length)
            starts = list(range(0, batch * length, length)) if length else [0] * batch
        if self.block_table is not None:
            keys = self._paged_lengths(names[1], batch, max(queries, default=0))
        elif layouts.packed(layout):
            keys = self._differences(names[1], self.key_lengths, layouts.sizes(layout, self.key.shape, 1)[1])
        else:
            keys = self._each(names[1], self.key_lengths, batch, layouts.sizes(layout, self.key.shape, 1)[1])
        if len(keys) != batch:
            refuse(self.operator, f"{names[1]} has {len(keys)} elements for {batch} sequences.")
        return starts, queries, keys

    def _differences(self, name: str, ends: Sequence[int] | None, total: int) -> list[int]:
        if ends is None:
            refuse(self.operator, f"{name} is missing; the layout {self.input_layout} takes the end of each sequence.")
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        if min(lengths, default=0) < 0:
            refuse(self.operator, f"{name} is {list(ends)}; ends of sequences do not fall.")
        if sum(lengths) != total:
            text = f"{name} ends with {sum(lengths)}, but there are {total} tokens"
            refuse(self.operator, f"{text}; the last sequence ends where the tensor does.")
        return lengths

    def _each(self, name: str, lengths: Sequence[int] | None, batch: int, longest: int) -> list[int]:
        if lengths is None:
            return [longest] * batch
        if len(lengths) != 1 and len(lengths) < batch:
            refuse(self.operator, f"{name} has {len(lengths)} elements; it takes 1, or {batch}.")
        found = list(lengths) * batch if len(lengths) == 1 else list(lengths[:batch])
        if found and not 0 <= min(found) <= max(found) <= longest:
            refuse(self.operator, f"{name} is {found}; the tensor has from 0 to {longest} tokens a sequence.")
        return found

    def _paged_lengths(self, name: str, batch: int, longest: int) -> list[int]:
        table = self.block_table
        assert table is not None
        if table.dim() != 2 or table.dtype != torch.int32 or table.shape[0] != batch:
            text = f"block_table is {tuple(table.shape)} of {table.dtype}"
            refuse(self.operator, f"{text}; it takes ({batch}, blocks a sequence) of int32.")
        self._check_block_size(longest)
        if self.key_lengths is None:
            refuse(self.operator, f"{name} is missing; with block_table it has the keys of each sequence.")
        return self._each(name, self.key_lengths, batch, table.shape[1] * self.block_size)

    def _check_block_size(self, longest: int) -> None:
        size = self.key.shape[1 if self.key.dim() == 3 else 2]
        if self.block_size != size:
            refuse(self.operator, f"block_size is {self.block_size}, but the blocks of the cache have {size} tokens.")
        if self.query_rope is not None:
            if size not in (16, 64, 128):
                refuse(self.operator, f"block_size is {size}; with query_rope it takes 16, 64 or 128.")
        elif longest > 1 and (size % 128 or not 128 <= size <= 512):
            refuse(self.operator, f"block_size is {size}; for several queries it takes 128, 256, 384 or 512.")
        elif size % 16 or not 16 <= size <= 512:
            refuse(self.operator, f"block_size is {size}; it takes multiples of 16 up to 512.")

    def _mask(self, layout: str, queries: list[int], keys: list[int]) -> Tensor | None:
        mask = self.atten_mask
        if mask is not None and mask.dtype not in _MASKS:
            refuse(self.operator, f"atten_mask is {mask.dtype}; it takes bool, int8 or uint8.")
        if self.sparse_mode in (2, 3, 4):
            check_compressed_mask(self.operator, self.sparse_mode, mask)
            return mask
        if mask is None:
            if self.sparse_mode == 1:
                refuse(self.operator, "atten_mask is missing; sparse_mode 1 takes the whole mask.")
            return None
        return full_mask(self.operator, mask, len(queries), max(queries, default=0), max(keys, default=0))

    def _check(self) -> None:
        given = [name for name, value in self.unsupported.items() if isinstance(value, Tensor) or value]
        if given:
            refuse(self.operator, f"the reference kernel does not compute {', '.join(given)}; leave it out.")
        if self.heads <= 0:
            refuse(self.operator, f"the number of query heads is {self.heads}; it must be positive.")
        layout, _ = layouts.parse(self.operator, self.input_layout, self.query)
        if self.sparse_mode not in (0, 1, 2, 3, 4):
            refuse(self.operator, f"sparse_mode is {self.sparse_mode}; the reference kernel computes 0 to 4.")
        packed_modes = (0,) if self.atten_mask is None else (3, 4)
        if layouts.packed(layout) and self.sparse_mode not in packed_modes:
            text = f"sparse_mode is {self.sparse_mode}, {'without' if self.atten_mask is None else 'with'} atten_mask"
            refuse(self.operator, f"{text}; the layout {self.input_layout} takes 0 without, 3 and 4 with it.")
        if self.inner_precise not in (0, 1, 2, 3):
            refuse(self.operator, f"inner_precise is {self.inner_precise}; it takes 0 to 3.")
        self._check_tensors()
        self._check_heads(layout)
        self._check_sink(layout)

    def _check_tensors(self) -> None:
        tensors = {"query": self.query, "key": self.key, "value": self.value}
        if (self.query_rope is None) != (self.key_rope is None):
            refuse(self.operator, "query_rope and key_rope go together; one of them is missing.")
        if self.query_rope is not None and self.key_rope is not None:
            tensors |= {"query_rope": self.query_rope, "key_rope": self.key_rope}
        for name, tensor in tensors.items():
            if tensor.dtype not in _DTYPES or tensor.dtype != self.query.dtype:
                text = f"{name} is {tensor.dtype} and query {self.query.dtype}"
                refuse(self.operator, f"{text}; all are float16, or all bfloat16, in the reference kernel.")

    def _check_heads(self, layout: str) -> None:
        _, _, heads, size = layouts.sizes(layout, self.query.shape, self.heads)
        if heads != self.heads:
            refuse(self.operator, f"query has {heads} heads, but the number of query heads is given as {self.heads}.")
        kv_heads = self._kv_heads
        if self.heads % kv_heads or (self.heads // kv_heads > 64 and not self._latent(layout)):
            text = f"there are {self.heads} heads of queries and {kv_heads} of keys"
            refuse(self.operator, f"{text}; the first is a multiple of the second, at most 64 times.")
        for name, width in (("query", size), ("value", self._value_size(layout))):
            if width % 16 or width > 512:
                refuse(self.operator, f"the heads of {name} have {width} elements; they have a multiple of 16, to 512.")
            if width > 256 and layouts.packed(layout) and self.query_rope is None:
                text = f"the heads of {name} have {width} elements"
                refuse(self.operator, f"{text}; in the layout {self.input_layout} they have at most 256.")
        if self.block_table is not None and self.key.dim() == 3 and self.key.shape[2] > 65535:
            text = f"a token's keys have {self.key.shape[2]} elements"
            refuse(self.operator, f"{text}; in a cache (blocks, block size, N * D) they have at most 65535.")
        if self.block_table is not None and self.key.dim() == 4 and layout in ("BSH", "BSND"):
            text = f"the cache has 4 dimensions, and the layout is {self.input_layout}"
            refuse(self.operator, f"{text}; BSH and BSND take a cache (blocks, block size, N * D).")

    def _latent(self, layout: str) -> bool:
        size = layouts.sizes(layout, self.query.shape, self.heads)[3]
        return self.query_rope is not None and size == latent.SIZE

    def _check_sink(self, layout: str) -> None:
        sink = self.learnable_sink
        if sink is None:
            return
        if self.input_layout not in ("TND", "NTD_TND") or self._value_size(layout) not in (64, 128):
            refuse(self.operator, "learnable_sink is for the layouts TND and NTD_TND and values of 64 or 128 elements.")
        if sink.dtype != torch.bfloat16 or sink.shape != (self.heads,):
            text = f"learnable_sink is {tuple(sink.shape)} of {sink.dtype}"
            refuse(self.operator, f"{text}; it takes ({self.heads},) of bfloat16.")
        if self.with_lse:
            refuse(self.operator, "torch_npu does not say what softmax_lse is beside learnable_sink; leave one out.")
