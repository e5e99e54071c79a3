"""npu_quant_matmul and npu_weight_quant_batchmatmul compute what torch_npu and CANN document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch

from ascend_overlay.npu.reference import integers
from ascend_overlay.npu.reference.quantization import carried_scale

HALVES = [torch.float16, torch.bfloat16]
_SIZES = {"m": st.integers(1, 9), "k": st.integers(1, 150), "n": st.integers(1, 40)}


def _int8(seed: int, *shape: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8)


def _whole(seed: int, *shape: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**20), 2**20, shape, generator=generator, dtype=torch.int32)


def _laid_out(weight: Any, transposed: bool) -> Any:
    """Return the same matrix, as it is or as the transposition of a contiguous one."""
    return weight.t().contiguous().t() if transposed else weight


@given(**_SIZES, extreme=st.sampled_from([None, -128, 127]), transposed=st.booleans())
def test_int32_results_are_exact(m: int, k: int, n: int, extreme: int | None, transposed: bool) -> None:
    x, w, bias = _int8(1, m, k), _laid_out(_int8(2, k, n), transposed), _whole(3, n)
    if extreme is not None:
        x.fill_(extreme)
        w.fill_(-128)
    exact = x.long() @ w.long()
    got = OPERATORS.npu_quant_matmul(x, w, torch.ones(1), output_dtype=torch.int32)
    assert got.dtype == torch.int32
    assert torch.equal(got.long(), exact)
    got = OPERATORS.npu_quant_matmul(x, w, torch.ones(n), bias=bias, output_dtype=torch.int32)
    assert torch.equal(got.long(), exact + bias)


@pytest.mark.parametrize("product", [integers.integer_product, integers.product_in_float32])
def test_the_longest_products_are_exact(product: Any) -> None:
    """float32 alone counts in ones up to 2**24 only, which 1041 squares of 127 exceed."""
    for k in (1024, 1025, 4096, 65535):
        for left, right in ((127, 127), (-128, 127), (-128, -128)):
            x, w = torch.full((2, k), left, dtype=torch.int8), torch.full((k, 3), right, dtype=torch.int8)
            w[0, 0] = 1
            assert torch.equal(product(x, w).long(), x.long() @ w.long())
    x, w = _int8(1, 3, 4000), _int8(2, 4000, 5)
    assert torch.equal(product(x, w).long(), x.long() @ w.long())


def test_products_of_one_pair_of_numbers_are_exact() -> None:
    x, columns = _int8(1, 5, 1), _int8(2, 8, 1)
    for w in (columns.t(), columns.t().contiguous(), columns.as_strided((1, 8), (1, 1))):
        assert torch.equal(integers.integer_product(x, w).long(), x.long() @ w.long())


def test_a_processor_whose_product_saturates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(a: Any, b: Any) -> Any:
        pairs = (a.long().unsqueeze(-1) * b.long()).unflatten(1, (-1, 2)).sum(2)
        return pairs.clamp(-(2**15), 2**15 - 1).sum(1).int()

    monkeypatch.setattr(torch, "_int_mm", saturating)
    integers._int_mm_is_exact.cache_clear()
    try:
        assert not integers._int_mm_is_exact()
        x = torch.full((2, 64), -128, dtype=torch.int8)
        assert (integers.integer_product(x, x.t()) == 64 * 2**14).all()
    finally:
        integers._int_mm_is_exact.cache_clear()


@given(
    **_SIZES,
    per_token=st.booleans(),
    per_channel=st.booleans(),
    bias=st.sampled_from([None, torch.int32, torch.bfloat16, torch.float32]),
    half_scale=st.booleans(),
)
def test_bfloat16_results(
    m: int, k: int, n: int, per_token: bool, per_channel: bool, bias: Any, half_scale: bool
) -> None:
    x, w = _int8(1, m, k), _int8(2, k, n)
    scale = (tensor(3, n if per_channel else 1) * 1e-3).to(torch.bfloat16 if half_scale else torch.float32)
    token = tensor(4, m).abs() if per_token else None
    added = None if bias is None else _whole(5, n) if bias == torch.int32 else tensor(5, n, dtype=bias)
    got = OPERATORS.npu_quant_matmul(x, w, scale, pertoken_scale=token, bias=added, output_dtype=torch.bfloat16)
    exact, size = _exact(x, w, scale, token, added)
    assert got.dtype == torch.bfloat16
    assert_rounded_once(got, exact, size)


@given(**_SIZES, bias=st.sampled_from([None, torch.int32, torch.float16, torch.float32]))
def test_float16_results_with_a_scale_per_token(m: int, k: int, n: int, bias: Any) -> None:
    x, w, scale, token = _int8(1, m, k), _int8(2, k, n), tensor(3, n) * 1e-3, tensor(4, m).abs()
    added = None if bias is None else _whole(5, n) if bias == torch.int32 else tensor(5, n, dtype=bias)
    got = OPERATORS.npu_quant_matmul(x, w, scale, pertoken_scale=token, bias=added, output_dtype=torch.float16)
    exact, size = _exact(x, w, scale, token, added)
    keeps = exact.abs() < 65000
    assert_rounded_once(got[keeps], exact[keeps], size[keeps])


@given(**_SIZES, biased=st.booleans(), form=st.sampled_from(["made", "plain bits", "float32"]))
def test_float16_results_are_scaled_by_19_bits(m: int, k: int, n: int, biased: bool, form: str) -> None:
    x, w, scale, bias = _int8(1, m, k), _int8(2, k, n), tensor(3, n) * 1e-4, _whole(5, n) if biased else None
    made = OPERATORS.npu_trans_quant_param(scale)
    plain = scale.view(torch.int32).long() & 0xFFFFFFFF  # as ModelSlim writes it
    given_as = {"made": made, "plain bits": plain, "float32": scale}[form]
    got = OPERATORS.npu_quant_matmul(x, w, given_as, bias=bias, output_dtype=torch.float16)
    read = carried_scale(made)
    torch.testing.assert_close(read, scale, rtol=2**-10, atol=0.0)
    exact, size = _exact(x, w, read, None, bias)
    assert got.dtype == torch.float16
    assert_rounded_once(got, exact, size)


@given(**_SIZES, biased=st.booleans(), offset=st.sampled_from(["none", "one", "each", "carried"]))
def test_int8_results_are_rounded_and_saturate(m: int, k: int, n: int, biased: bool, offset: str) -> None:
    x, w, bias = _int8(1, m, k), _int8(2, k, n), _whole(5, n) if biased else None
    scale = carried_scale(OPERATORS.npu_trans_quant_param(tensor(3, n) * 2e-4))
    shift = tensor(4, 1 if offset == "one" else n, scale=40.0).round()
    if offset == "carried":
        named: dict[str, Any] = {}
        factor = OPERATORS.npu_trans_quant_param(scale, shift)
    else:
        named = {} if offset == "none" else {"offset": shift}
        factor = scale
    got = OPERATORS.npu_quant_matmul(x, w, factor, bias=bias, **named)
    total = x.long() @ w.long() + (0 if bias is None else bias)
    value = total.float() * scale + (0.0 if offset == "none" else shift)
    assert got.dtype == torch.int8
    assert torch.equal(got, value.round().clamp(-128, 127).to(torch.int8))


def _exact(x: Any, w: Any, scale: Any, token: Any, bias: Any) -> tuple[Any, Any]:
    """Return the formula in float64, and the size of what it adds up."""
    total = (x.long() @ w.long()).double()
    if bias is not None and bias.dtype == torch.int32:
        total += bias
    factor = scale.double() * (1.0 if token is None else token.double()[:, None])
    result = total * factor
    size = result.abs()
    if bias is not None and bias.dtype != torch.int32:
        result, size = result + bias.double(), size + bias.double().abs()
    return result, size


def test_leading_dimensions_broadcast() -> None:
    x, w = _int8(1, 2, 1, 3, 40), _int8(2, 5, 40, 6)
    got = OPERATORS.npu_quant_matmul(x, w, torch.ones(1), output_dtype=torch.int32)
    assert torch.equal(got.long(), x.long() @ w.long())
    x3, bias = _int8(3, 4, 3, 40), _whole(4, 4, 1, 6)
    got = OPERATORS.npu_quant_matmul(x3, w[0], torch.ones(1), bias=bias, output_dtype=torch.int32)
    assert torch.equal(got.long(), x3.long() @ w[0].long() + bias)


@given(
    **_SIZES,
    dtype=st.sampled_from(HALVES),
    per_channel=st.sampled_from([(1,), (1, 1), "n", "1n"]),
    offset=st.booleans(),
    bias=st.booleans(),
    transposed=st.booleans(),
)
def test_weights_are_dequantized_by_channel(
    m: int, k: int, n: int, dtype: Any, per_channel: Any, offset: bool, bias: bool, transposed: bool
) -> None:
    shape = {"n": (n,), "1n": (1, n)}.get(per_channel, per_channel)
    x, w = tensor(1, m, k, dtype=dtype), _laid_out(_int8(2, k, n), transposed)
    scale = tensor(3, *shape, dtype=dtype, scale=0.01)
    shift = tensor(4, *shape, dtype=dtype, scale=20.0) if offset else None
    added = tensor(5, n, dtype=torch.float32 if dtype == torch.bfloat16 else dtype) if bias else None
    got = OPERATORS.npu_weight_quant_batchmatmul(x, w, scale, shift, bias=added)
    weight = (w.double() + (shift.double() if offset else 0.0)) * scale.double()
    exact = x.double() @ weight
    size = x.double().abs() @ weight.abs()
    if added is not None:
        exact, size = exact + added.double(), size + added.double().abs()
    assert got.dtype == dtype
    assert_rounded_once(got, exact, size)


@pytest.mark.parametrize(("k", "group"), [(96, 32), (100, 32), (300, 128)])
@pytest.mark.parametrize("dtype", HALVES)
def test_weights_are_dequantized_by_group(k: int, group: int, dtype: Any) -> None:
    groups = -(-k // group)
    x, w = tensor(1, 3, k, dtype=dtype), _int8(2, k, 2000)
    scale, shift = tensor(3, groups, 2000, dtype=dtype, scale=0.01), tensor(4, groups, 2000, dtype=dtype, scale=20.0)
    got = OPERATORS.npu_weight_quant_batchmatmul(x, w, scale, shift, antiquant_group_size=group)
    row = torch.arange(k) // group
    weight = (w.double() + shift.double()[row]) * scale.double()[row]
    assert_rounded_once(got, x.double() @ weight, x.double().abs() @ weight.abs())


@pytest.mark.parametrize("transposed", [False, True])
def test_torch_accepts_the_operators(transposed: bool) -> None:
    x, w, scale, token = _int8(1, 5, 64), _laid_out(_int8(2, 64, 48), transposed), tensor(3, 48), tensor(4, 5).abs()
    bf16 = 15  # torch.bfloat16, as the schema has it
    assert_checked_by_torch(OPERATORS.npu_quant_matmul, x, w, scale, pertoken_scale=token, output_dtype=bf16)
    assert_checked_by_torch(OPERATORS.npu_quant_matmul, x, w, scale, bias=_whole(5, 48))
    assert_compiles(lambda *a: OPERATORS.npu_quant_matmul(*a, output_dtype=torch.bfloat16), x, w, scale)
    halves = tensor(1, 5, 64, dtype=torch.bfloat16), w, scale.bfloat16()
    assert_checked_by_torch(OPERATORS.npu_weight_quant_batchmatmul, *halves, scale.bfloat16())
    assert_compiles(lambda *a: OPERATORS.npu_weight_quant_batchmatmul(*a, bias=a[2].float()), *halves)


_A, _B, _S = torch.ones(2, 4, dtype=torch.int8), torch.ones(4, 3, dtype=torch.int8), torch.ones(3)
_T = torch.ones(2)


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((_A, _B[:3], _S), {}, "k is 4 and 3"),
        ((_A.int(), _B, _S), {}, "x1 is torch.int32"),
        ((_A, _B.bfloat16(), _S), {}, "x2 is torch.bfloat16"),
        ((_A[:0], _B, _S), {}, "no empty matrix"),
        ((_A[0], _B, _S), {}, "1 dimensions"),
        ((_A, torch.ones(4, 65536, dtype=torch.int8), _S[:1]), {}, "65536 elements; it takes 65535"),
        ((_A, _B, _S[:2]), {}, r"scale has the shape \(2,\)"),
        ((_A, _B, _S.half()), {"output_dtype": torch.float16}, "scale is torch.float16"),
        ((_A, _B, _S.bfloat16()), {}, "scale is torch.bfloat16; for an output of torch.int8"),
        ((_A, _B, _S.long()), {"output_dtype": torch.bfloat16}, "scale is torch.int64"),
        ((_A, _B, _S), {"output_dtype": torch.float32}, "output_dtype is torch.float32"),
        ((_A, _B, _S), {"pertoken_scale": _T}, "only float16 and bfloat16 are scaled by token"),
        ((_A, _B, _S), {"pertoken_scale": _S, "output_dtype": torch.bfloat16}, "pertoken_scale has the shape"),
        ((_A, _B, _S), {"pertoken_scale": _T.half(), "output_dtype": torch.bfloat16}, "takes float32"),
        ((_A, _B, _S), {"bias": _S, "output_dtype": torch.float16}, "bias is torch.float32"),
        ((_A, _B, _S), {"bias": _S.half(), "output_dtype": torch.bfloat16}, "bias is torch.float16"),
        ((_A, _B, _S), {"bias": _T.int()}, r"bias has the shape \(2,\)"),
        ((_A, _B, _S), {"offset": _S, "output_dtype": torch.bfloat16}, "offset is torch.float32"),
        ((_A, _B, _S), {"group_sizes": [1, 128, 128]}, "group_sizes"),
    ],
)
def test_what_the_npu_does_not_multiply_is_refused(arguments: Any, named: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_quant_matmul(*arguments, **named)


_X, _W, _C = torch.ones(2, 64).half(), torch.ones(64, 3, dtype=torch.int8), torch.ones(3).half()


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((_X.float(), _W, _C), {}, "float16 or bfloat16"),
        ((_X, _W.int(), _C), {}, "weight is torch.int32"),
        ((_X[None], _W, _C), {}, "3 dimensions"),
        ((_X[:, :5], _W, _C), {}, "k is 5 and 64"),
        ((_X[:0], _W, _C), {}, "65535"),
        ((_X, _W, _C.bfloat16()), {}, "antiquant_scale is torch.bfloat16"),
        ((_X, _W, _C[:2]), {}, "antiquant_scale"),
        ((_X, _W, _C, _C[:1]), {}, "antiquant_offset"),
        ((_X, _W, _C), {"bias": _C.float()}, "bias is torch.float32"),
        ((_X.bfloat16(), _W, _C.bfloat16()), {"bias": _C.bfloat16()}, "bias is torch.bfloat16"),
        ((_X, _W, _C), {"antiquant_group_size": 48}, "multiple of 32"),
        ((_X, _W, _C), {"antiquant_group_size": 32}, "antiquant_scale"),
        ((_X, _W, _C), {"quant_scale": torch.ones(3)}, "quant_scale"),
    ],
)
def test_what_the_npu_does_not_dequantize_is_refused(arguments: Any, named: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_weight_quant_batchmatmul(*arguments, **named)
