"""The rows of an embedding that is spread over ranks: vLLM's own answer, without torch.compile."""

from __future__ import annotations

from typing import Any

import pytest

import ascend_overlay

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.vllm

# Vocabulary 10 padded to 12 with 4 added tokens, over two ranks: (first, end, padding, first added, end of added).
RANKS = [(0, 6, 0, 10, 12), (6, 10, 2, 12, 14), (0, 10, 6, 10, 10)]


def _vllm(tokens: Any, rank: tuple[int, ...]) -> Any:
    from vllm.model_executor.layers import vocab_parallel_embedding

    function = vocab_parallel_embedding.get_masked_input_and_mask
    return getattr(function, "_torchdynamo_orig_callable", function)(tokens, *rank)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("rank", RANKS)
def test_rows_and_mask_are_those_of_vllm(rank: tuple[int, ...], dtype: Any) -> None:
    tokens = torch.arange(14, dtype=dtype).reshape(2, 7)
    wanted = _vllm(tokens, rank)
    with ascend_overlay.enabled(only=["embedding"], propagate=False):
        from vllm.model_executor.layers import vocab_parallel_embedding

        rows, elsewhere = vocab_parallel_embedding.get_masked_input_and_mask(tokens, *rank)
    assert torch.equal(rows, wanted[0])
    assert rows.dtype == dtype
    assert torch.equal(elsewhere, wanted[1])


def test_a_layer_of_two_ranks_adds_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from layer_kit import configured
    from vllm.model_executor.layers import vocab_parallel_embedding as module

    tokens = torch.tensor([0, 5, 6, 9, 99])
    weight = torch.randn(128, 8)
    found = []
    with ascend_overlay.enabled(only=["embedding"], propagate=False), configured():
        monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 2)
        monkeypatch.setattr(module, "tensor_model_parallel_all_reduce", lambda x: x)
        for rank in (0, 1):
            monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda rank=rank: rank)
            layer = module.VocabParallelEmbedding(100, 8)
            first, end = layer.shard_indices.org_vocab_start_index, layer.shard_indices.org_vocab_end_index
            layer.weight.data.zero_()
            layer.weight.data[: end - first] = weight[first:end]
            found.append(layer(tokens))
    assert torch.equal(found[0] + found[1], weight[tokens])
    assert not torch.equal(found[0], weight[tokens])
