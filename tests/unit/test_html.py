"""How rates, lengths of time, instants and amounts read on a page."""

from decimal import Decimal

import pytest

from web import html

NOW = 1_795_230_245.25


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (0.05, "0.1 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3_599.6, "1 h"),
        (7_800, "2 h 10 min"),
        (86_399.7, "1 d"),
        (4 * 86_400 + 3 * 3_600, "4 d 3 h"),
    ],
)
def test_a_length_of_time_reads_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert html.span(seconds) == text


@pytest.mark.parametrize(
    ("offset_s", "text"), [(0, "now"), (-0.4, "now"), (-3, "3 s ago"), (3, "in 3 s"), (-125, "2 min 5 s ago")]
)
def test_an_instant_reads_as_its_distance_with_the_utc_time_as_title(offset_s: float, text: str) -> None:
    shown = html.when(NOW + offset_s, NOW)
    assert shown.endswith(f">{text}</time>")
    assert shown.count(" UTC") == 1
    assert html.when(NOW, NOW) == '<time datetime="2026-11-21T03:04:05Z" title="2026-11-21 03:04:05 UTC">now</time>'


@pytest.mark.parametrize(("per_s", "text"), [(0, "·"), (0.01, "<0.1"), (0.05, "0.1"), (12.34, "12.3"), (1_234.5, "1,234")])
def test_a_rate_reads_short_and_a_small_one_is_not_shown_as_none(per_s: float, text: str) -> None:
    assert html.rate(per_s) == text


@pytest.mark.parametrize(("amount", "text"), [("2.5", "2.50"), ("0", "0.00"), ("0.001", "0.001"), ("12345.678", "12,345.678")])
def test_an_amount_has_two_decimals_or_more_and_is_never_rounded(amount: str, text: str) -> None:
    assert html.money(Decimal(amount)) == text
