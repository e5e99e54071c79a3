"""What counts as the same, and what does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from demo_kit import output

from ascend_overlay.commands.demo.compare import LIKELIEST, TOLERANCE, Difference, compare


def difference(stock: dict[str, Any], overlaid: dict[str, Any]) -> Difference:
    """Compare one output."""
    (found,) = compare([stock], [overlaid])
    return found


def test_the_same_output_is_acceptable() -> None:
    found = difference(output([5, 6, 7]), output([5, 6, 7]))
    assert found.acceptable
    assert (found.agreeing, found.tie, found.largest, found.compared) == (3, None, 0.0, 8)


def test_a_rounding_of_log_probabilities_is_acceptable() -> None:
    found = difference(output([5], [{"5": -0.1, "9": -3.0}]), output([5], [{"5": -0.15, "9": -2.9}]))
    assert found.acceptable
    assert found.largest == pytest.approx(0.1)


def test_another_likely_token_is_not() -> None:
    found = difference(output([5], [{"5": -0.1, "9": -3.0}]), output([5], [{"5": -0.1, "9": -3.0 - 2 * TOLERANCE}]))
    assert found.agreeing == found.tokens
    assert not found.acceptable


def test_a_flip_at_a_near_tie_is_acceptable_and_ends_the_comparison() -> None:
    stock = output([5, 6], [{"5": -0.70, "8": -0.71}, {"6": -0.1, "9": -5.0}])
    overlaid = output([8, 4], [{"5": -0.71, "8": -0.70}, {"4": -0.1, "3": -2.0}])
    found = difference(stock, overlaid)
    assert found.agreeing == 0
    assert found.tie == pytest.approx(0.01)
    assert found.compared == 4
    assert found.acceptable


def test_a_flip_against_a_clear_choice_is_not() -> None:
    stock = output([5], [{"5": -0.1, "8": -2.5}])
    assert not difference(stock, output([8], [{"5": -0.9, "8": -0.6}])).acceptable


def test_a_token_that_the_other_run_does_not_even_list_counts_by_the_distance_to_its_list() -> None:
    found = difference(output([5], [{"5": -0.1, "8": -3.0}]), output([7], [{"7": -0.1, "9": -4.0}]))
    assert found.tie == pytest.approx(2.9)
    assert found.largest == pytest.approx(3.9)
    assert not found.acceptable


def test_tokens_missing_at_the_end_of_both_lists_do_not_count() -> None:
    found = difference(output([5], [{"5": -0.1, "8": -3.00}]), output([5], [{"5": -0.1, "9": -3.01}]))
    assert found.acceptable
    assert found.largest == pytest.approx(0.01)


def test_the_token_that_came_does_not_lower_the_bar_where_it_is_unlikely() -> None:
    likeliest = {str(token): -1.0 - token / 100 for token in range(100, 100 + LIKELIEST)}
    swapped = {token: value for token, value in likeliest.items() if token != "119"} | {"500": likeliest["119"]}
    stock, overlaid = output([5], [likeliest | {"5": -15.0}]), output([5], [swapped | {"5": -15.0}])
    found = difference(stock, overlaid)
    assert found.acceptable
    assert found.largest == pytest.approx(0.0)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_what_is_not_finite_is_not_acceptable(value: float) -> None:
    found = difference(output([5], [{"5": -0.1, "8": value}]), output([5], [{"5": -0.1, "8": value}]))
    assert found.not_finite > 0
    assert not found.acceptable


def test_fewer_tokens_are_not_acceptable() -> None:
    assert not difference(output([5, 6]), output([5])).acceptable


def test_no_tokens_at_all_are_not_acceptable() -> None:
    assert not difference(output([]), output([])).acceptable


def test_figures_are_plain_data() -> None:
    found = difference(output([5]), output([5])).to_dict()
    assert found["acceptable"] is True
    assert found["tie"] is None
