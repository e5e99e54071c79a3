"""npu_grouped_matmul computes what torch_npu documents."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch

from ascend_overlay.npu.reference import moe_matmul
from ascend_overlay.npu.reference.moe_matmul import npu_grouped_matmul

BIAS = {torch.float32: torch.float32, torch.float16: torch.float16, torch.bfloat16: torch.float32}
GROUPED = {"split_item": 2, "group_type": 0, "group_list_type": 1}

# What decides how a product is computed, so that each machine goes each way.
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "by PyTorch itself": {"_FEW_ROWS": 1 << 30},
    "in float32, being small": {"_FEW_ROWS": 0, "_SMALL": 1 << 30},
    "in float32, for want of instructions": {"_FEW_ROWS": 0, "_SMALL": 0, "_at_home": lambda dtype: False},
    "by oneDNN": {"_FEW_ROWS": 0, "_SMALL": 0, "_at_home": lambda dtype: True},
}

_SIZES = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def _int8(seed: int, *shape: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8)


def _weights(groups: int, k: int, n: int, dtype: Any, layout: str) -> Any:
    """Return weights (groups, k, n) as they are, or as a transposed view."""
    make = _int8 if dtype == torch.int8 else (lambda seed, *shape: tensor(seed, *shape, dtype=dtype, scale=k**-0.5))
    return make(2, groups, n, k).transpose(1, 2) if layout == "transposed" else make(2, groups, k, n)


def _kind(sizes: list[int], kind: int = 1) -> int:
    """Return the group_list_type; of one group the operator takes 0 only."""
    return kind if len(sizes) > 1 else 0


def _owners(sizes: list[int]) -> Any:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def _listed(sizes: list[int], kind: int) -> Any:
    return torch.tensor(sizes).cumsum(0) if kind == 0 else torch.tensor(sizes)


def _product(x: Any, weight: Any, sizes: list[int]) -> tuple[Any, Any]:
    """Return the products row by row in float64, and the size of what is added up."""
    chosen = weight.double()[_owners(sizes)]
    x = x[: sum(sizes)].double().unsqueeze(1)
    return (x @ chosen).squeeze(1), (x.abs() @ chosen.abs()).squeeze(1)


@given(
    sizes=_SIZES,
    rest=st.integers(0, 3),
    k=st.integers(1, 40),
    n=st.integers(1, 24),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(["plain", "transposed"]),
    kind=st.integers(0, 1),
    with_bias=st.booleans(),
    way=st.sampled_from(list(WAYS)),
)
def test_float_products_are_rounded_once(
    sizes: list[int], rest: int, k: int, n: int, dtype: Any, layout: str, kind: int, with_bias: bool, way: str
) -> None:
    total = sum(sizes)
    x, weight = tensor(1, total + rest, k, dtype=dtype), _weights(len(sizes), k, n, dtype, layout)
    bias = tensor(3, len(sizes), n, dtype=BIAS[dtype]) if with_bias else None
    kind = _kind(sizes, kind)
    options = GROUPED | {"group_list_type": kind, "group_list": _listed(sizes, kind)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAYS[way].items():
            patch.setattr(moe_matmul, name, value)
        (y,) = OPERATORS.npu_grouped_matmul([x], [weight], bias=None if bias is None else [bias], **options)
    exact, size = _product(x, weight, sizes)
    if bias is not None:
        exact, size = exact + bias.double()[_owners(sizes)], size + bias.double().abs()[_owners(sizes)]
    assert y.dtype == dtype
    assert y.shape == (total + rest, n)
    assert_rounded_once(y[:total], exact, size)
    assert not y[total:].any()


@given(
    sizes=_SIZES,
    rest=st.integers(0, 3),
    k=st.integers(1, 70),
    n=st.integers(1, 24),
    layout=st.sampled_from(["plain", "transposed"]),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    per_token=st.booleans(),
    with_bias=st.booleans(),
)
def test_int8_products_are_exact_until_they_are_scaled(
    sizes: list[int], rest: int, k: int, n: int, layout: str, dtype: Any, per_token: bool, with_bias: bool
) -> None:
    total, groups = sum(sizes), len(sizes)
    x, weight = _int8(1, total + rest, k), _weights(groups, k, n, torch.int8, layout)
    bias = (tensor(3, groups, n, scale=1e5)).to(torch.int32) if with_bias else None
    scale = (tensor(4, groups, n).abs() + 0.1).to(torch.bfloat16 if dtype == torch.bfloat16 else torch.float32)
    tokens = tensor(5, total + rest).abs() if per_token else None
    options = GROUPED | {
        "group_list": torch.tensor(sizes),
        "group_list_type": _kind(sizes),
        "bias": None if bias is None else [bias],
    }
    accumulated, _ = _product(x, weight, sizes)
    if bias is not None:
        accumulated = accumulated + bias.double()[_owners(sizes)]
    (sums,) = OPERATORS.npu_grouped_matmul([x], [weight], output_dtype=torch.int32, **options)
    assert sums.dtype == torch.int32
    assert torch.equal(sums[:total].double(), accumulated)
    assert not sums[total:].any()
    options |= {"scale": [scale], "output_dtype": dtype, "per_token_scale": None if tokens is None else [tokens]}
    (y,) = OPERATORS.npu_grouped_matmul([x], [weight], **options)
    exact = accumulated * scale.double()[_owners(sizes)]
    if tokens is not None:
        exact = exact * tokens[:total].double().unsqueeze(-1)
    assert y.dtype == dtype
    finite = exact.abs() < torch.finfo(dtype).max
    assert_rounded_once(y[:total][finite], exact[finite])
    assert not y[total:].any()


def test_what_was_taken_once_is_still_looked_at() -> None:
    """The shapes and dtypes of a call are not checked anew; numbers are, and so is every other call."""
    x, weight, options = tensor(1, 5, 8), tensor(2, 2, 8, 6), GROUPED | {"group_list": torch.tensor([2, 3])}
    OPERATORS.npu_grouped_matmul([x], [weight], **options)
    for change, message in (
        ({"group_list": torch.tensor([2, 4])}, "for 5 rows"),
        ({"group_list": torch.tensor([2, 3], dtype=torch.int32)}, "group_list is torch.int32"),
        ({"group_type": -1}, "split_item is 2"),
        ({"bias": [torch.zeros(2, 5)]}, "bias has the shapes"),
    ):
        for _ in range(2):
            with pytest.raises(RuntimeError, match=message):
                OPERATORS.npu_grouped_matmul([x], [weight], **(options | change))
    with pytest.raises(RuntimeError, match="has no product"):
        OPERATORS.npu_grouped_matmul([x[:, :7]], [weight], **options)


@pytest.mark.parametrize(("kind", "name"), [(1, "relu"), (2, "gelu"), (4, "fast gelu"), (5, "silu")])
def test_an_activation_is_applied_before_rounding(kind: int, name: str) -> None:
    x, weight = _int8(1, 5, 8), _int8(2, 2, 8, 6)
    scale, tokens = torch.full((2, 6), 1e-3), torch.full((5,), 0.1)
    options = GROUPED | {"group_list": torch.tensor([2, 3]), "scale": [scale], "per_token_scale": [tokens]}
    (y,) = OPERATORS.npu_grouped_matmul([x], [weight], act_type=kind, output_dtype=torch.float16, **options)
    exact = _product(x, weight, [2, 3])[0] * 1e-4
    wanted = {
        "relu": exact.clamp(min=0),
        "gelu": 0.5 * exact * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (exact + 0.044715 * exact**3))),
        "fast gelu": exact / (1 + (-1.702 * exact).exp()),
        "silu": exact / (1 + (-exact).exp()),
    }[name]
    assert_rounded_once(y, wanted, exact.abs())


def test_int8_results_are_rounded_to_even_and_saturate() -> None:
    x, weight = (
        torch.tensor([[1], [3], [5], [127], [-127]], dtype=torch.int8),
        torch.tensor([[[1, 100]]]).to(torch.int8),
    )
    bits = torch.tensor([[0.5, 0.5]]).view(torch.int32).to(torch.int64)
    options = GROUPED | {"group_list": torch.tensor([5]), "group_list_type": 0}
    (y,) = OPERATORS.npu_grouped_matmul([x], [weight], scale=[bits], **options)
    assert y.dtype == torch.int8
    assert y.tolist() == [[0, 50], [2, 127], [2, 127], [64, 127], [-64, -128]]


def _packed(numbers: Any) -> Any:
    """Put eight numbers of 4 bits, of neighbouring columns, into an int32, the first in the lowest bits."""
    return torch.tensor(
        [
            [
                [_signed(sum((int(row[8 * i + j]) & 15) << (4 * j) for j in range(8))) for i in range(len(row) // 8)]
                for row in group
            ]
            for group in numbers
        ],
        dtype=torch.int32,
    ).view(*numbers.shape[:2], numbers.shape[2] // 8)


def _signed(bits: int) -> int:
    return bits - 2**32 if bits >= 2**31 else bits


@given(
    sizes=_SIZES,
    parts=st.integers(0, 3),
    length=st.integers(1, 8),
    n=st.sampled_from([8, 16]),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_a_weight_of_4_bits_is_scaled_before_the_product(
    sizes: list[int], parts: int, length: int, n: int, dtype: Any
) -> None:
    groups, k = len(sizes), max(1, parts) * length
    generator = torch.Generator().manual_seed(k)
    numbers = torch.randint(-8, 8, (groups, k, n), generator=generator)
    x, shape = tensor(1, sum(sizes), k, dtype=dtype), (groups, parts, n) if parts else (groups, n)
    scale, offset = tensor(3, *shape, dtype=dtype, scale=1e-2), tensor(4, *shape, dtype=dtype)
    options = GROUPED | {"group_list": torch.tensor(sizes), "group_list_type": _kind(sizes)}
    (y,) = OPERATORS.npu_grouped_matmul(
        [x], [_packed(numbers)], antiquant_scale=[scale], antiquant_offset=[offset], **options
    )
    by_row = [
        (values.repeat_interleave(length, 1) if parts else values.unsqueeze(1)).double() for values in (scale, offset)
    ]
    exact, size = _product(x, (numbers.double() + by_row[1]) * by_row[0], sizes)
    assert y.dtype == dtype and y.shape == (sum(sizes), n)
    assert_rounded_once(y, exact, size)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"antiquant_scale": None}, "takes an antiquant_scale and an antiquant_offset"),
        ({"antiquant_scale": [torch.ones(2, 3, 16).half()]}, "parts of equal length|it takes"),
        ({"antiquant_offset": [torch.ones(2, 4, 16).half()]}, "parts of equal length|it takes"),
        ({"antiquant_scale": [torch.ones(2, 2).half()]}, "antiquant_scale has the shapes"),
        ({"scale": [torch.ones(2, 16)]}, "there is scale"),
    ],
)
def test_what_a_weight_of_4_bits_does_not_take(change: dict[str, Any], says: str) -> None:
    x, weight = torch.ones(4, 8).half(), torch.zeros(2, 8, 2, dtype=torch.int32)
    options: dict[str, Any] = {
        "antiquant_scale": [torch.ones(2, 2, 16).half()],
        "antiquant_offset": [torch.zeros(2, 2, 16).half()],
        "group_list": torch.tensor([2, 2]),
        "group_list_type": 1,
    }
    OPERATORS.npu_grouped_matmul([x], [weight], **(GROUPED | options))
    with pytest.raises(RuntimeError, match=says):
        OPERATORS.npu_grouped_matmul([x], [weight], **(GROUPED | options | change))
    turned = torch.zeros(2, 2, 8, dtype=torch.int32).transpose(1, 2)
    with pytest.raises(RuntimeError, match="a packed weight is a transposed view"):
        OPERATORS.npu_grouped_matmul([x], [turned], **(GROUPED | options))


def _carried(scale: Any) -> Any:
    return scale.view(torch.int32).to(torch.int64) & 0xFFFFFFFF


@given(
    sizes=_SIZES,
    rest=st.integers(0, 3),
    k=st.sampled_from([64, 192, 512]),
    by_part=st.booleans(),
    n=st.sampled_from([8, 24]),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_int8_by_int4_is_the_product_of_the_numbers(
    sizes: list[int], rest: int, k: int, by_part: bool, n: int, dtype: Any
) -> None:
    """With the bias that is documented, what the operator takes from the rows is back."""
    groups, total = len(sizes), sum(sizes)
    parts = k // 256 if by_part and k % 256 == 0 else 1
    generator = torch.Generator().manual_seed(k)
    numbers = torch.randint(-8, 8, (groups, k, n), generator=generator)
    x, tokens = _int8(1, total + rest, k), tensor(5, total + rest).abs()
    scale = tensor(4, groups, parts, n).abs() * 1e-3 + 1e-4
    whole = numbers.double() * scale.double().repeat_interleave(k // parts, 1)
    options = GROUPED | {"group_list": torch.tensor(sizes), "group_list_type": _kind(sizes), "output_dtype": dtype}
    options |= {"scale": [_carried(scale)], "bias": [(8 * whole.sum(1)).float()], "per_token_scale": [tokens]}
    (y,) = OPERATORS.npu_grouped_matmul([x], [_packed(numbers)], **options)
    exact, size = _product(x, whole, sizes)
    factor = tokens[:total].double().unsqueeze(-1)
    assert y.dtype == dtype and y.shape == (total + rest, n)
    # The bias is float32, and as large as what it makes up for.
    assert_rounded_once(y[:total], exact * factor, size * factor)
    assert not y[total:].any()


def test_int8_by_int4_without_the_bias_that_is_documented_is_what_the_formula_makes_of_it() -> None:
    x, numbers = torch.tensor([[3] + [0] * 63], dtype=torch.int8), torch.zeros(1, 64, 8, dtype=torch.int64)
    numbers[0, 0] = torch.arange(-8, 0)
    bias = torch.full((1, 8), 0.5)
    options = GROUPED | {"group_list": torch.tensor([1]), "group_list_type": 0, "output_dtype": torch.float16}
    options |= {
        "scale": [_carried(torch.full((1, 1, 8), 0.25))],
        "bias": [bias],
        "per_token_scale": [torch.tensor([2.0])],
    }
    (y,) = OPERATORS.npu_grouped_matmul([x], [_packed(numbers)], **options)
    assert y.tolist() == [[((3 - 8) * number * 0.25 + 0.5) * 2 for number in range(-8, 0)]]


def test_the_longest_rows_of_int8_by_int4_are_exact() -> None:
    """Sums of whole numbers go beyond what float32 counts in ones."""
    x, k = torch.full((1, 18432), -128, dtype=torch.int8), 18432
    numbers = torch.full((1, k, 8), 7)
    numbers[0, 0] = torch.arange(8)
    options = GROUPED | {"group_list": torch.tensor([1]), "group_list_type": 0, "output_dtype": torch.float16}
    options |= {"scale": [_carried(torch.full((1, 1, 8), 2.0**-24))], "bias": [torch.zeros(1, 8)]}
    options |= {"per_token_scale": [torch.ones(1)]}
    (y,) = OPERATORS.npu_grouped_matmul([x], [_packed(numbers)], **options)
    assert_rounded_once(y, -136 * numbers.double().sum(1) * 2.0**-24)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bias": None}, "takes a bias, a scale and a per_token_scale, and nothing else"),
        ({"scale": None}, "takes a bias, a scale and a per_token_scale, and nothing else"),
        ({"per_token_scale": None}, "takes a bias, a scale and a per_token_scale, and nothing else"),
        ({"antiquant_scale": [torch.ones(2, 16).half()]}, "and nothing else"),
        ({"offset": [torch.ones(2, 1, 16)]}, "there is offset"),
        ({"bias": [torch.zeros(2, 16, dtype=torch.int32)]}, "bias is torch.int32; .* takes torch.float32"),
        ({"bias": [torch.zeros(2, 1, 16)]}, "bias has the shapes"),
        ({"scale": [torch.ones(2, 1, 16)]}, "scale is torch.float32; .* takes torch.int64"),
        ({"scale": [torch.ones(2, 16, dtype=torch.int64)]}, r"scale has the shapes .* takes \[\(2, 1, 16\)\]"),
        ({"scale": [torch.ones(2, 2, 16, dtype=torch.int64)]}, r"scale has the shapes .* takes \[\(2, 1, 16\)\]"),
        ({"output_dtype": None}, "output_dtype is torch.int8; .* takes torch.bfloat16 or torch.float16"),
        ({"output_dtype": torch.int32}, "output_dtype is torch.int32"),
        ({"act_type": 5}, "act_type is 5"),
        ({"group_list_type": 0}, "group_list_type is 0; .* takes sizes, 1"),
        ({"split_item": 0, "group_type": -1, "group_list": None}, "x one tensor that is grouped"),
    ],
)
def test_what_int8_by_int4_does_not_take(change: dict[str, Any], says: str) -> None:
    x, weight = torch.ones(4, 64, dtype=torch.int8), torch.zeros(2, 64, 2, dtype=torch.int32)
    options: dict[str, Any] = {
        "scale": [torch.ones(2, 1, 16, dtype=torch.int64)],
        "bias": [torch.zeros(2, 16)],
        "per_token_scale": [torch.ones(4)],
        "group_list": torch.tensor([2, 2]),
        "output_dtype": torch.bfloat16,
    }
    OPERATORS.npu_grouped_matmul([x], [weight], **(GROUPED | options))
    with pytest.raises(RuntimeError, match=says):
        OPERATORS.npu_grouped_matmul([x], [weight], **(GROUPED | options | change))
    turned = torch.zeros(2, 2, 64, dtype=torch.int32).transpose(1, 2)
    with pytest.raises(RuntimeError, match="a packed weight is a transposed view"):
        OPERATORS.npu_grouped_matmul([x], [turned], **(GROUPED | options))


@pytest.mark.parametrize("inputs", [32, 18496])
def test_how_many_inputs_int8_by_int4_takes(inputs: int) -> None:
    x, weight = torch.ones(4, inputs, dtype=torch.int8), torch.zeros(2, inputs, 1, dtype=torch.int32)
    options = {"scale": [torch.ones(2, 1, 8, dtype=torch.int64)], "bias": [torch.zeros(2, 8)]}
    more = {"per_token_scale": [torch.ones(4)], "group_list": torch.tensor([2, 2]), "output_dtype": torch.bfloat16}
    with pytest.raises(RuntimeError, match=f"there are {inputs} inputs; .* a multiple of 64, 18432 at most"):
        OPERATORS.npu_grouped_matmul([x], [weight], **GROUPED, **options, **more)


@given(sizes=_SIZES, k=st.integers(1, 40), n=st.integers(1, 16), dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_an_int8_weight_is_scaled_before_the_product(sizes: list[int], k: int, n: int, dtype: Any) -> None:
    groups = len(sizes)
    x, weight = tensor(1, sum(sizes), k, dtype=dtype), _int8(2, groups, k, n)
    scale, offset = tensor(3, groups, n, dtype=dtype, scale=1e-2), tensor(4, groups, n, dtype=dtype)
    bias = tensor(5, groups, n, dtype=BIAS[dtype])
    options = GROUPED | {"group_list": torch.tensor(sizes), "group_list_type": _kind(sizes), "bias": [bias]}
    (y,) = OPERATORS.npu_grouped_matmul([x], [weight], antiquant_scale=[scale], antiquant_offset=[offset], **options)
    whole = (weight.double() + offset.double().unsqueeze(1)) * scale.double().unsqueeze(1)
    exact, size = _product(x, whole, sizes)
    owners = _owners(sizes)
    assert y.dtype == dtype
    assert_rounded_once(y, exact + bias.double()[owners], size + bias.double().abs()[owners])


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_groups_each_tensor_has_its_weight(dtype: Any) -> None:
    x = [tensor(1, 3, 8, dtype=dtype), tensor(2, 2, 4, 5, dtype=dtype), tensor(3, 0, 4, dtype=dtype)]
    weight = [tensor(4, 8, 6, dtype=dtype), tensor(5, 5, 7, dtype=dtype), tensor(6, 4, 3, dtype=dtype)]
    got = OPERATORS.npu_grouped_matmul(x, weight, group_type=-1)
    assert [tuple(y.shape) for y in got] == [(3, 6), (2, 4, 7), (0, 3)]
    for y, left, right in zip(got, x, weight, strict=True):
        assert_rounded_once(y, left.double() @ right.double(), left.double().abs() @ right.double().abs())


def test_rows_and_weights_may_come_as_lists() -> None:
    x, weight = [tensor(1, 2, 8), tensor(2, 0, 8), tensor(3, 3, 8)], [tensor(i, 8, 4) for i in range(3)]
    wanted = torch.cat([a @ b for a, b in zip(x, weight, strict=True)])
    options = {"split_item": 3, "group_type": 0}
    for listed in (None, torch.tensor([2, 2, 5])):
        (y,) = OPERATORS.npu_grouped_matmul(x, weight, group_list=listed, **options)
        torch.testing.assert_close(y, wanted)
    (y,) = OPERATORS.npu_grouped_matmul([torch.cat(x)], weight, group_list=torch.tensor([2, 2, 5]), **options)
    torch.testing.assert_close(y, wanted)


def test_no_copy_of_all_weights_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    convert = torch.Tensor.float

    def counted(self: Any) -> Any:
        copied.append(self.numel())
        return convert(self)

    monkeypatch.setattr(torch.Tensor, "float", counted)
    x, weight, listed = torch.ones(6, 8), torch.ones(50, 8, 4), torch.zeros(50, dtype=torch.int64)
    listed[[3, 7]] = 3
    for dtype in (torch.bfloat16, torch.float16):
        npu_grouped_matmul([x.to(dtype)], [weight.to(dtype)], group_list=listed, **GROUPED)
    # One for each row at most.
    assert max(copied, default=0) <= 6 * 8 * 4


def test_few_rows_are_multiplied_without_onednn_which_is_on_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    x, listed = tensor(1, 5, 16, dtype=torch.bfloat16), torch.tensor([2, 3])
    multiply, seen = torch.mm, []

    def observed(a: Any, b: Any, *, out: Any) -> Any:
        seen.append((len(a), torch.backends.mkldnn.enabled))
        if a.isnan().any():
            raise ArithmeticError
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", observed)
    monkeypatch.setattr(moe_matmul, "_SMALL", 0)
    monkeypatch.setattr(moe_matmul, "_at_home", lambda dtype: True)
    for layout, wanted in (("transposed", [(2, False), (3, True)]), ("plain", [(2, True), (3, True)])):
        seen.clear()
        npu_grouped_matmul([x], [_weights(2, 16, 8, torch.bfloat16, layout)], group_list=listed, **GROUPED)
        assert seen == wanted
    with pytest.raises(ArithmeticError):
        weight = _weights(2, 16, 8, torch.bfloat16, "transposed")
        npu_grouped_matmul([x * torch.nan], [weight], group_list=listed, **GROUPED)
    assert torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        npu_grouped_matmul([x], [weight], group_list=listed, **GROUPED)
        assert not torch.backends.mkldnn.enabled
    finally:
        torch.backends.mkldnn.enabled = True


def test_onednn_is_on_again_after_products_of_many_threads() -> None:
    x, weight = tensor(1, 8, 64, dtype=torch.bfloat16), _weights(8, 64, 64, torch.bfloat16, "transposed")
    options = GROUPED | {"group_list": torch.ones(8, dtype=torch.int64)}
    (wanted,) = npu_grouped_matmul([x], [weight], **options)
    with ThreadPoolExecutor(8) as pool:
        for (got,) in pool.map(lambda _: npu_grouped_matmul([x], [weight], **options), range(400)):
            assert torch.equal(got, wanted)
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int8])
def test_torch_accepts_the_operator(dtype: Any) -> None:
    sizes = torch.tensor([2, 0, 3])
    options: dict[str, Any] = GROUPED | {"group_list": sizes}
    x = tensor(1, 5, 32, scale=20).to(dtype)[:, ::2]
    if dtype == torch.int8:
        options |= {"scale": [torch.ones(3, 8)], "per_token_scale": [torch.ones(5)], "output_dtype": 5}
    for layout in ("plain", "transposed"):
        weight = _weights(3, 16, 8, dtype, layout)
        assert_checked_by_torch(OPERATORS.npu_grouped_matmul, [x], [weight], **options)
        assert_compiles(lambda x, w: tuple(OPERATORS.npu_grouped_matmul([x], [w], **options)), x, weight)
    if dtype != torch.int8:
        assert_checked_by_torch(OPERATORS.npu_grouped_matmul, [x, x[:2]], [weight[0], weight[1]], group_type=-1)


def test_torch_accepts_int8_by_int4() -> None:
    x, weight = _int8(1, 5, 64), torch.randint(-(2**31), 2**31 - 1, (3, 64, 2), dtype=torch.int32)
    options = GROUPED | {"group_list": torch.tensor([2, 0, 3]), "output_dtype": 15, "bias": [tensor(2, 3, 16)]}
    options |= {"scale": [_carried(tensor(3, 3, 1, 16).abs())], "per_token_scale": [tensor(4, 5).abs()]}
    assert_checked_by_torch(OPERATORS.npu_grouped_matmul, [x], [weight], **options)
    assert_compiles(lambda x, w: tuple(OPERATORS.npu_grouped_matmul([x], [w], **options)), x, weight)


_X, _W, _G = torch.ones(4, 8), torch.ones(2, 8, 6), torch.tensor([2, 2])
_X8, _W8 = _X.to(torch.int8), _W.to(torch.int8)
_S = [torch.ones(2, 6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_type": None}, "group_type is None"),
        ({"group_type": 2}, "group_type is 2"),
        ({"split_item": 0}, "split_item is 0; it takes 2 or 3 with group_type 0"),
        ({"group_list_type": 2}, "group_list_type is 2"),
        ({"group_list": None}, "no group_list"),
        ({"group_list": torch.tensor([2])}, "one element for each of 2 groups"),
        ({"group_list": torch.tensor([4]), "weight": [_W[:1]]}, "the size of a single group"),
        ({"group_list": torch.tensor([2, 2], dtype=torch.int32)}, "int32"),
        ({"group_list": torch.tensor([2, 3])}, "for 4 rows"),
        ({"group_list": torch.tensor([3, 2]), "group_list_type": 0}, r"ends \[3, 2\]"),
        ({"x": []}, "0 tensors"),
        ({"x": [torch.ones(4, 7)]}, r"\(4, 7\) has no product with a weight of the shape \(2, 8, 6\)"),
        ({"x": [_X.bfloat16()]}, "x is torch.bfloat16 and weight torch.float32"),
        ({"weight": [_W.to(torch.int32)]}, "int32"),
        ({"bias": [torch.ones(6)]}, "bias has the shapes"),
        (
            {"x": [_X.bfloat16()], "weight": [_W.bfloat16()], "bias": [torch.ones(2, 6).bfloat16()]},
            "takes torch.float32",
        ),
        ({"scale": _S}, "there is scale"),
        ({"offset": _S}, "there is offset"),
        ({"x_dtype": 290}, "x_dtype"),
        ({"output_dtype": torch.bfloat16}, "output_dtype is torch.bfloat16; with x of torch.float32"),
        ({"output_dtype": torch.float64}, "output_dtype is 7|float64"),
        ({"act_type": 5}, "act_type takes a per_token_scale"),
        ({"act_type": 3}, "act_type is 3"),
        ({"x": [_X8], "weight": [_W8]}, "output_dtype is torch.int8"),
        ({"x": [_X8], "weight": [_W8], "scale": _S, "output_dtype": torch.bfloat16}, "it takes torch.float16"),
        ({"x": [_X8], "weight": [_W8], "output_dtype": 3, "per_token_scale": [torch.ones(4)]}, "takes a scale"),
        ({"x": [_X8], "weight": [_W8], "scale": _S, "per_token_scale": [torch.ones(3)]}, "per_token_scale has"),
        ({"x": [_X8], "weight": [_W8], "scale": _S, "bias": _S, "output_dtype": 5}, "bias is torch.float32"),
        ({"x": [_X.half()], "weight": [_W8]}, "antiquant_scale and an antiquant_offset"),
        ({"group_type": -1, "split_item": 0}, "no group_list"),
        ({"group_type": -1, "split_item": 0, "group_list": None, "weight": [_W]}, "has no product"),
        ({"x": [_X, _X], "weight": [_W[0], _W[1]]}, "group_list differs"),
        ({"weight": [_W[0], _W[1, :, :3]]}, "last dimension"),
    ],
)
def test_what_the_npu_refuses_is_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"x": [_X], "weight": [_W], "group_list": _G, **GROUPED} | options
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_grouped_matmul(**arguments)
