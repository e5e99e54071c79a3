"""vLLM's rotary embeddings run on npu_mrope, and on npu_rotary_mul where npu_mrope does not take them."""

from __future__ import annotations

import inspect
import itertools
import json
from typing import Any

import pytest
from layer_kit import DISPATCH, DTYPES, assert_rounded_once, calls, configured, dtype_of, tensor

import ascend_overlay
from ascend_overlay.npu import tracing

pytestmark = pytest.mark.vllm

ONLY = ["rotary"]
HEAD, TOKENS = 64, 6


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.rotary_embedding")


def _scaled(kind: str, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    # case -> class, arguments of get_rope
    "plain": ("RotaryEmbedding", {}),
    "plain, neighbours": ("RotaryEmbedding", {"is_neox_style": False}),
    "half of the head": ("RotaryEmbedding", _scaled("default", partial_rotary_factor=0.5)),
    "half, neighbours": ("RotaryEmbedding", {"is_neox_style": False, **_scaled("default", partial_rotary_factor=0.5)}),
    "quarter of the head": ("RotaryEmbedding", _scaled("default", partial_rotary_factor=0.25)),
    "quarter, neighbours": (
        "RotaryEmbedding",
        {"is_neox_style": False, **_scaled("default", partial_rotary_factor=0.25)},
    ),
    "24 elements": ("LinearScalingRotaryEmbedding", _scaled("linear", factor=2.0, partial_rotary_factor=0.375)),
    "linear": ("LinearScalingRotaryEmbedding", _scaled("linear", factor=2.0)),
    "ntk": ("NTKScalingRotaryEmbedding", _scaled("ntk", factor=2.0)),
    "ntk, mixed": ("NTKScalingRotaryEmbedding", _scaled("ntk", factor=2.0, mixed_b=0.6)),
    "dynamic ntk": ("DynamicNTKScalingRotaryEmbedding", _scaled("dynamic", factor=2.0)),
    "dynamic ntk, alpha": ("DynamicNTKAlphaRotaryEmbedding", _scaled("dynamic", alpha=1000.0)),
    "llama 3": (
        "Llama3RotaryEmbedding",
        _scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32),
    ),
    "yarn": ("YaRNScalingRotaryEmbedding", _scaled("yarn", factor=4.0, original_max_position_embeddings=16)),
    "gemma 4": ("Gemma4RotaryEmbedding", _scaled("proportional", partial_rotary_factor=0.25)),
    "deepseek": (
        "DeepseekScalingRotaryEmbedding",
        {
            "is_neox_style": False,
            **_scaled(
                "deepseek_yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.707, mscale_all_dim=0.5
            ),
        },
    ),
    "deepseek, halves": (
        "DeepseekScalingRotaryEmbedding",
        _scaled("deepseek_yarn", factor=4.0, original_max_position_embeddings=16, partial_rotary_factor=0.5),
    ),
    "deepseek, quarter": (
        "DeepseekScalingRotaryEmbedding",
        _scaled("deepseek_yarn", factor=4.0, original_max_position_embeddings=16, partial_rotary_factor=0.25),
    ),
    "multimodal, text": ("MRotaryEmbedding", _scaled("default", mrope_section=[8, 12, 12])),
    "multimodal": ("MRotaryEmbedding", _scaled("default", mrope_section=[8, 12, 12])),
    "multimodal, neighbours": (
        "MRotaryEmbedding",
        {"is_neox_style": False, **_scaled("default", mrope_section=[8, 12, 12])},
    ),
    "multimodal, alternating": (
        "MRotaryEmbedding",
        _scaled("default", mrope_section=[8, 12, 12], mrope_interleaved=True),
    ),
    "multimodal, alternating, unequal": (
        "MRotaryEmbedding",
        _scaled("default", mrope_section=[11, 11, 10], mrope_interleaved=True),
    ),
    "multimodal, other sections": ("MRotaryEmbedding", _scaled("default", mrope_section=[10, 11, 11])),
    "multimodal, alternating, other sections": (
        "MRotaryEmbedding",
        _scaled("default", mrope_section=[12, 10, 10], mrope_interleaved=True),
    ),
    "multimodal, quarter": (
        "MRotaryEmbedding",
        _scaled("default", mrope_section=[2, 3, 3], partial_rotary_factor=0.25),
    ),
    "multimodal, text, quarter": (
        "MRotaryEmbedding",
        _scaled("default", mrope_section=[2, 3, 3], partial_rotary_factor=0.25),
    ),
    "multimodal, bailing": (
        "BailingMRotaryEmbedding",
        {"is_neox_style": False, **_scaled("bailing_mrope", mrope_section=[8, 12, 12])},
    ),
    "multimodal, pangu": (
        "MRotaryEmbeddingInterleaved",
        _scaled("openpangu", mrope_section=[8, 12, 12], mrope_interleaved=True),
    ),
    "multimodal, yarn": (
        "MRotaryEmbedding",
        _scaled("yarn", factor=4.0, original_max_position_embeddings=16, mrope_section=[8, 12, 12]),
    ),
    "phi 3, short": (
        "Phi3LongRoPEScaledRotaryEmbedding",
        _scaled("longrope", short_factor=[1.0] * 32, long_factor=[2.0] * 32, original_max_position_embeddings=64),
    ),
    "phi 3, quarter": (
        "Phi3LongRoPEScaledRotaryEmbedding",
        _scaled(
            "longrope",
            short_factor=[1.0] * 8,
            long_factor=[2.0] * 8,
            original_max_position_embeddings=32,
            partial_rotary_factor=0.25,
        ),
    ),
    "phi 3, long": (
        "Phi3LongRoPEScaledRotaryEmbedding",
        _scaled("longrope", short_factor=[1.0] * 32, long_factor=[2.0] * 32, original_max_position_embeddings=32),
    ),
}

BY_PAIRS = ("quarter", "24 elements", "other sections", "unequal", "bailing", "pangu")
"""Parts of the names of the cases that npu_mrope does not take, or not in half precision."""

THEIR_OWN = {
    # They keep their forward method, and the ledger says so where they derive from a class that does not. The heads of
    # Bailing, Ernie and Pangu are turned by npu_rotary_mul all the same: they call ApplyRotaryEmb.
    "BailingMRotaryEmbedding",
    "DeepseekV4ScalingRotaryEmbedding",
    "DualChunkRotaryEmbedding",
    "Ernie4_5_VLRotaryEmbedding",
    "FourierRotaryEmbedding",
    "MRotaryEmbeddingInterleaved",
    "RotaryEmbeddingBase",
}


def _operators(case: str, dtype: Any) -> dict[str, int]:
    """Return the operators that run for query and key."""
    fits_in_float32 = "quarter" in case and case != "multimodal, quarter" and str(dtype) == "torch.float32"
    if any(part in case for part in BY_PAIRS) and not fits_in_float32:
        return {"npu_rotary_mul": 2}
    return {"npu_mrope": 1}


def _rope(case: str, dtype: Any) -> Any:
    from vllm.model_executor.layers import rotary_embedding

    rotary_embedding._ROPE_DICT.clear()
    return rotary_embedding.get_rope(HEAD, 64, **ROPES[case][1], dtype=dtype)


def _arguments(case: str, dtype: Any) -> tuple[Any, Any, Any]:
    import torch

    positions = torch.tensor([0, 1, 5, 13, 31, 60])
    if case.startswith("multimodal") and "text" not in case:
        positions = torch.stack((positions, positions.flip(0), positions // 2))
    query, key = tensor(1, TOKENS, 3 * HEAD, dtype=dtype), tensor(2, TOKENS, HEAD, dtype=dtype)
    if case.startswith("deepseek"):
        # As multi-head latent attention passes them: slices of wider heads.
        query = tensor(1, TOKENS, 3, 2 * HEAD, dtype=dtype)[..., HEAD:]
        key = key.unsqueeze(1)
    return positions, query, key


def _forward_in_float32(layer: Any, positions: Any, query: Any, key: Any) -> tuple[Any, Any]:
    native = layer.forward if "forward" in vars(type(layer)) else layer.forward_native
    rotated: tuple[Any, Any] = native(positions, query.float(), key.float())
    return rotated


@pytest.mark.parametrize("case", ROPES)
def test_the_npu_operators_rotate(case: str) -> None:
    exact = {}
    for name in DTYPES:
        with configured():
            stock = _rope(case, dtype_of(name))
            assert type(stock).__name__ == ROPES[case][0]
            exact[name] = _forward_in_float32(stock, *_arguments(case, dtype_of(name)))
    before = ascend_overlay.ledger().notes
    # Enabling takes longer than all of these.
    with ascend_overlay.enabled(only=ONLY, trace=True):
        for name, custom_ops in itertools.product(DTYPES, DISPATCH):
            with configured(custom_ops):
                _check(case, dtype_of(name), exact[name], type(stock))
        assert ascend_overlay.ledger().notes == before


def _check(case: str, dtype: Any, exact: Any, cls: type) -> None:
    positions, query, key = _arguments(case, dtype)
    before = query.clone(), key.clone()
    layer = _rope(case, dtype)
    assert isinstance(layer, cls)
    tracing.reset()
    got = layer(positions, query, key)
    assert calls() == _operators(case, dtype)
    if "forward" not in vars(type(layer)):
        again = layer.forward_oot(positions, query, key)
        assert [(ours == theirs).all() for ours, theirs in zip(got, again, strict=True)] == [True, True]
    for ours, theirs, given, kept in zip(got, exact, (query, key), before, strict=True):
        assert ours.dtype == dtype
        assert_rounded_once(ours, theirs, terms=4 * given.float().abs().amax(dim=-1, keepdim=True).expand_as(given))
        assert (given == kept).all()


def test_every_class_of_vllm_is_accounted_for() -> None:
    import importlib
    import pkgutil

    import torch
    from vllm.model_executor.layers import rotary_embedding

    found = set()
    for module in pkgutil.iter_modules(rotary_embedding.__path__, f"{rotary_embedding.__name__}."):
        for name, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if cls.__module__ == module.name and issubclass(cls, torch.nn.Module) and "Rotary" in name:
                found.add(name)
    assert found - {"ApplyRotaryEmb"} == {cls for cls, _ in ROPES.values()} | THEIR_OWN | {
        "Llama4VisionRotaryEmbedding"
    }


@pytest.mark.parametrize("case", ["plain", "llama 3", "deepseek", "24 elements"])
def test_a_query_without_a_key(case: str) -> None:
    dtype = dtype_of("bfloat16")
    positions, query, key = _arguments(case, dtype)
    with ascend_overlay.enabled(only=ONLY), configured():
        layer = _rope(case, dtype)
        wanted, _ = layer(positions, query, key)
        got, nothing = layer(positions, query, None)
    assert nothing is None
    assert (got == wanted).all()


def test_offsets_move_the_positions() -> None:
    dtype = dtype_of("bfloat16")
    with ascend_overlay.enabled(only=ONLY), configured():
        for case in ("deepseek", "phi 3, short", "deepseek, quarter"):
            positions, query, key = _arguments(case, dtype)
            layer = _rope(case, dtype)
            offsets = positions.new_full(positions.shape, 2)
            for got, wanted in zip(
                layer(positions, query, key, offsets), layer(positions + 2, query, key), strict=True
            ):
                assert (got == wanted).all()


@pytest.mark.parametrize("case", ["plain", "24 elements"])
@pytest.mark.parametrize("shape", [(2, 3, 3 * HEAD), (6, 3, HEAD)])
def test_batches_and_heads_in_dimensions_of_their_own(case: str, shape: tuple[int, ...]) -> None:
    import torch

    query, key = tensor(1, *shape, dtype=torch.bfloat16), tensor(2, *shape, dtype=torch.bfloat16)
    positions = torch.arange(6).view(shape[0], -1) if shape[0] == 2 else torch.arange(6)
    with ascend_overlay.enabled(only=ONLY), configured():
        layer = _rope(case, torch.bfloat16)
        got = layer(positions, query, key)
        flat = layer(torch.arange(6), query.reshape(6, -1), key.reshape(6, -1))
    for ours, wanted in zip(got, flat, strict=True):
        assert ours.shape == shape
        assert torch.equal(ours.reshape(6, -1), wanted)


@pytest.mark.parametrize(
    "case", ["plain", "llama 3", "deepseek", "multimodal", "phi 3, long", "24 elements", "multimodal, bailing"]
)
def test_compiled_it_is_one_graph(case: str) -> None:
    import torch

    positions, query, key = _arguments(case, torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"), torch.no_grad():
        layer = _rope(case, torch.bfloat16)
        wanted = layer(positions, query, key)
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="inductor")
        for ours, theirs in zip(compiled(positions, query, key), wanted, strict=True):
            assert torch.equal(ours, theirs)
        fewer = [compiled(positions[..., :4], query[:4], key[:4]), layer(positions[..., :4], query[:4], key[:4])]
        for ours, theirs in zip(*fewer, strict=True):
            assert torch.equal(ours, theirs)
        assert calls() == {name: 4 * count for name, count in _operators(case, torch.bfloat16).items()}


@pytest.mark.parametrize("custom_ops", DISPATCH)
def test_what_no_operator_takes_stays_vllms_and_is_noted(custom_ops: str) -> None:
    import torch
    from vllm.model_executor.layers.rotary_embedding import RotaryEmbedding

    positions, query, key = (
        torch.arange(3),
        tensor(1, 3, 960, dtype=torch.bfloat16),
        tensor(2, 3, 960, dtype=torch.bfloat16),
    )
    arguments = (960, 912, 64, 10000.0, True, torch.bfloat16)
    with configured(custom_ops):
        wanted = RotaryEmbedding(*arguments)(positions, query.clone(), key.clone())
    with ascend_overlay.enabled(only=ONLY, trace=True), configured(custom_ops):
        got = RotaryEmbedding(*arguments)(positions, query.clone(), key.clone())
        assert calls() == {}
        assert [torch.equal(ours, theirs) for ours, theirs in zip(got, wanted, strict=True)] == [True, True]
        (text,) = [text for overlay, text in ascend_overlay.ledger().notes if overlay == "rotary"]
        assert "RotaryEmbedding with 912 of 960 elements" in text
        assert "stays vLLM's: npu_rotary_mul takes even numbers below 896" in text


def test_a_size_that_no_operator_takes_is_noted_for_phi_3_too() -> None:
    import torch
    from vllm.model_executor.layers.rotary_embedding import phi3_long_rope_scaled_rope as module

    factors = [1.0] * 448
    with ascend_overlay.enabled(only=ONLY), configured():
        module.Phi3LongRoPEScaledRotaryEmbedding(960, 896, 128, 64, 10000.0, True, torch.bfloat16, factors, factors)
        assert not [text for overlay, text in ascend_overlay.ledger().notes if "Phi3" in text]
        factors.append(1.0)
        module.Phi3LongRoPEScaledRotaryEmbedding(960, 898, 128, 64, 10000.0, True, torch.bfloat16, factors, factors)
        (text,) = [text for overlay, text in ascend_overlay.ledger().notes if "Phi3" in text]
    assert "with 898 of 960 elements rotated in torch.bfloat16 stays vLLM's" in text


@pytest.mark.parametrize("name", ["bfloat16"])
def test_ernie_turns_its_heads_with_npu_rotary_mul(name: str) -> None:
    from vllm.model_executor.layers.rotary_embedding.ernie45_vl_rope import Ernie4_5_VLRotaryEmbedding

    dtype = dtype_of(name)
    positions, query, key = _arguments("multimodal", dtype)
    arguments = (HEAD, HEAD, 64, 10000.0, False, dtype, [12, 12, 8])
    with configured():
        exact = _forward_in_float32(Ernie4_5_VLRotaryEmbedding(*arguments), positions, query, key)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        # The method of an NPU's platform; that of the CPU passes an argument which this class does not take.
        got = Ernie4_5_VLRotaryEmbedding(*arguments).forward_oot(positions, query, key)
        assert calls() == {"npu_rotary_mul": 2}
    for ours, theirs, given in zip(got, exact, (query, key), strict=True):
        assert_rounded_once(ours, theirs, terms=4 * given.float().abs().amax(dim=-1, keepdim=True).expand_as(given))


@pytest.mark.parametrize(("name", "custom_ops"), [("float32", "all"), ("float16", "none"), ("bfloat16", "all")])
def test_llama_4_turns_the_heads_of_patches(name: str, custom_ops: str) -> None:
    import torch
    from vllm.model_executor.layers import rotary_embedding

    dtype = dtype_of(name)
    query, key = tensor(1, 2, 17, 3, HEAD, dtype=dtype), tensor(2, 2, 17, 3, HEAD, dtype=dtype)

    def rope() -> Any:
        rotary_embedding._ROPE_DICT.clear()
        parameters = _scaled("mllama4", partial_rotary_factor=0.5)
        return rotary_embedding.get_rope(HEAD, 16, is_neox_style=False, dtype=torch.complex64, **parameters)

    with configured(custom_ops):
        stock = rope()
        exact = stock.forward_native(query.float(), key.float())
    with ascend_overlay.enabled(only=ONLY, trace=True), configured(custom_ops):
        layer = rope()
        assert isinstance(layer, type(stock))
        got = layer(query, key)
        assert calls() == {"npu_rotary_mul": 2}
        many = query[:1].expand(500, -1, -1, -1)
        assert torch.equal(layer(many, many)[0][7], layer(query[:1], key[:1])[0][0])
        assert any("Llama4VisionRotaryEmbedding with 1000 heads" in text for _, text in ascend_overlay.ledger().notes)
    for ours, theirs, given in zip(got, exact, (query, key), strict=True):
        assert ours.dtype == dtype
        assert_rounded_once(ours, theirs, terms=4 * given.float().abs().amax(dim=-1, keepdim=True).expand_as(given))


def test_the_ledger_names_the_classes_that_keep_their_own() -> None:
    import vllm.model_executor.layers.rotary_embedding.ernie45_vl_rope  # noqa: F401

    with ascend_overlay.enabled(only=ONLY):
        entries = [entry for entry in ascend_overlay.ledger() if entry.overlay == "rotary" and entry.state == "applied"]
    noted = {note.rsplit(".", 1)[-1].split()[0] for entry in entries for note in entry.notes}
    related = THEIR_OWN - {"DualChunkRotaryEmbedding", "RotaryEmbeddingBase"}
    assert noted == related


def test_afterwards_nothing_is_left() -> None:
    from vllm.model_executor.custom_op import op_registry_oot
    from vllm.model_executor.layers import rotary_embedding

    classes = {name: cls for name, cls in vars(rotary_embedding).items() if inspect.isclass(cls)}
    bases = {name: cls.__bases__ for name, cls in classes.items()}
    registry, cache = dict(op_registry_oot), rotary_embedding._ROPE_DICT
    with configured():
        stock = rotary_embedding.get_rope(HEAD, 64)
        with ascend_overlay.enabled(only=ONLY):
            assert type(rotary_embedding.get_rope(HEAD, 64)).__name__ == "AscendRotaryEmbedding"
            assert rotary_embedding.Llama3RotaryEmbedding.__bases__ != bases["Llama3RotaryEmbedding"]
        assert rotary_embedding.get_rope(HEAD, 64) is stock
    assert {name: vars(rotary_embedding)[name] for name in classes} == classes
    assert {name: cls.__bases__ for name, cls in classes.items()} == bases
    assert op_registry_oot == registry
    assert rotary_embedding._ROPE_DICT is cache


def test_enabled_before_vllm_its_classes_are_replaced_while_they_are_imported(python: Any) -> None:
    done = python.script(
        """
        import json, sys
        import ascend_overlay

        ascend_overlay.enable(only=["layernorm", "activation", "rotary"], propagate=False)
        assert "torch" not in sys.modules
        import vllm.model_executor.layers.rotary_embedding as ropes
        from vllm.model_executor.layers import activation, layernorm

        assert ropes.Llama3RotaryEmbedding.__bases__[0].__name__ == "AscendRotaryEmbedding"
        assert ropes.Phi3LongRoPEScaledRotaryEmbedding.__name__ == "AscendPhi3LongRoPEScaledRotaryEmbedding"
        print(json.dumps([entry.state for entry in ascend_overlay.ledger() if not entry.machinery]))
        """,
        env={"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
        timeout=180,
    )
    assert set(json.loads(done.stdout.splitlines()[-1])) == {"applied"}
