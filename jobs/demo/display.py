"""What the demo shows: the progress bar and the table at the end, pure text from figures."""

from collections import Counter

from jobs.demo.plan import Expected
from jobs.demo.verdict import Seen

BAR_WIDTH = 30
MAX_REASONS = 8
NAME_WIDTH = 12
FIGURE_WIDTH = 8


def bar(done: int, total: int, note: str) -> str:
    """The bar, drawn over the one before: carriage return, and erase to the end of the line."""
    share = done / total
    return f"\r[{'#' * round(share * BAR_WIDTH):.<{BAR_WIDTH}}] {share:4.0%}  {note}\x1b[K"


def table(expected: Expected, seen: Seen, seconds: float) -> str:
    """The whole table."""
    made_of = f"{expected.entries:,} people, {expected.again:,} sent again, {expected.broken:,} broken on purpose"
    rows = [
        "Entries",
        _row("sent", expected.entries + expected.again + expected.broken, made_of),
        _row("accepted", seen.accepted),
        _row("counted", seen.counted),
        _row("duplicates", seen.duplicates),
        *_reasons("rejected", seen.rejected),
        "Orders",
        _row("sent", expected.orders_accepted + expected.orders_refused),
        _row("accepted", len(seen.orders)),
        *_reasons("refused", seen.refused),
        _row("delivered", seen.reasons("delivered").total()),
        *(row for status in ("rejected", "cancelled", "dead") for row in _reasons(status, seen.reasons(status))),
        f"{seconds:.1f} seconds, {seen.repeated} requests repeated",
    ]
    return "\n".join(rows)


def _reasons(name: str, reasons: Counter[str]) -> list[str]:
    """The sum, and the commonest reasons below it."""
    return [_row(name, reasons.total()), *(_row("", n, reason) for reason, n in reasons.most_common(MAX_REASONS))]


def _row(name: str, figure: int, note: str = "") -> str:
    return f"  {name:<{NAME_WIDTH}}{figure:>{FIGURE_WIDTH},}  {note}".rstrip()
