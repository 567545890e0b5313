"""HTML answers: templates that escape all they are given, a policy that runs no foreign code, and how numbers and times read."""

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not no-referrer: with that, browsers send `Origin: null` along with our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES = {path.name: f"/static/{path.name}?v={hashlib.sha256(path.read_bytes()).hexdigest()[:10]}" for path in STATIC.iterdir()}
"""The URL of each file in static/; it changes with the content, so that no browser keeps an old one."""
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


def html(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The template as an answer; `values` are whatever it names."""
    return HTMLResponse(_environment.get_template(template).render(values), status, dict(HEADERS))


def message(status: int, title: str, detail: str) -> HTMLResponse:
    """A page that says one thing, mostly an error."""
    return html("message.html", status, title=title, detail=detail)


def span(seconds: float) -> str:
    """A length of time in its two largest units: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    whole = round(seconds)
    for unit_s, unit, part_s, part in ((DAY_S, "d", HOUR_S, "h"), (HOUR_S, "h", MINUTE_S, "min"), (MINUTE_S, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit} {rest} {part}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def when(instant: float, now: float) -> Markup:
    """An instant (Unix seconds) as `3 s ago`, `in 3 s` or `now`, with the UTC time as its title."""
    moment = datetime.fromtimestamp(instant, UTC)
    distance_s = round(abs(now - instant))
    length = span(distance_s) if distance_s >= 10 else f"{distance_s} s"
    text = "now" if distance_s == 0 else f"{length} ago" if instant < now else f"in {length}"
    return Markup('<time datetime="{0:%Y-%m-%dT%H:%M:%SZ}" title="{0:%Y-%m-%d %H:%M:%S} UTC">{1}</time>').format(moment, text)


def utc(instant: float) -> str:
    """An instant (Unix seconds) in full."""
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S} UTC"


def rate(per_s: float) -> str:
    """Jobs a second; a dot for none, so that the eye finds the others."""
    if per_s == 0:
        return "·"
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.1f}" if per_s >= 0.05 else "<0.1"


def money(amount: Decimal) -> str:
    """An amount with at least two decimals; further ones are kept, never rounded away."""
    return f"{amount:,.2f}" if amount == round(amount, 2) else f"{amount:,f}"


_environment = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_environment.filters.update(span=span, when=when, utc=utc, number="{:,}".format, amount="{:,.12g}".format, rate=rate, money=money)
_environment.globals.update(static=FILES)
