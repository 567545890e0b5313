"""Scopes: what includes what, which call needs which, and that the document says the same."""

import re
from pathlib import Path

import pytest

from jobs.access.scopes import ALL, Scope, granted, parse
from jobs.errors import InvalidField
from web.app import OPERATIONS
from web.openapi import document
from web.rules import Rules

DOCUMENT = Path(__file__).parents[2] / "docs" / "front-door.md"
RULES = Rules(OPERATIONS)


def table() -> dict[str, str]:
    """The documented scopes of each call."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text[text.index("\n## Who may call\n") : text.index("\n## Signed requests of devices\n")]
    rows = [line.strip("|").split("|") for line in section.splitlines() if re.match(r"\| [a-z: ]+ \| `[A-Z]+ /", line)]
    return {call: scopes.strip() for scopes, calls in rows for call in re.findall(r"`([A-Z]+ /[^`]+)`", calls)}


def test_the_document_lists_every_call_with_the_scopes_that_it_needs() -> None:
    said = {f"{one.method} {one.path}": " or ".join(sorted(one.needs())) or "no key" for one in OPERATIONS}
    assert table() == said


def test_a_request_needs_what_its_operation_says() -> None:
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "x", operation.path)
        assert RULES.needs(operation.method, path) == operation.needs()
        if operation.method == "GET":
            assert RULES.needs("HEAD", path) == operation.needs()


def test_only_the_probes_and_the_address_with_a_token_need_no_key() -> None:
    open_to_all = {operation.path for operation in OPERATIONS if not operation.needs()}
    assert open_to_all == {"/livez", "/readyz", "/hirefire/{token}/info"}


@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/rq/", "/v1/entries/", "//v1/entries", "/v1/orders/a/b/c", "/livez/", "/readyz/x", "/hirefire/a/b/info"],
)
def test_what_is_no_operation_is_an_operators(path: str) -> None:
    assert RULES.needs("GET", path) == {Scope.OPS_READ}
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "nonsense"):
        assert RULES.needs(method, path) == {Scope.OPS_WRITE}


def test_the_openapi_document_names_the_scopes_of_each_call() -> None:
    paths = document(OPERATIONS)["paths"]
    assert paths["/v1/entries"]["post"]["security"] == [{"key": ["entries"]}, {"device": ["entries"]}]
    assert {"key": ["ops:read"]} in paths["/v1/orders"]["get"]["security"]
    assert paths["/livez"]["get"]["security"] == [{}]
    keyless = document(OPERATIONS, asks_for_keys=False)["paths"]
    assert keyless["/v1/entries"]["post"]["security"] == [{}]


def test_admin_includes_all_and_who_may_change_may_look() -> None:
    assert granted([Scope.ADMIN]) == ALL
    assert granted([Scope.OPS_WRITE]) == {Scope.OPS_WRITE, Scope.OPS_READ}
    assert granted([Scope.ENTRIES]) == {Scope.ENTRIES}


def test_scopes_are_read_in_any_order_and_an_unknown_one_is_named() -> None:
    assert parse("ops:read, entries") == (Scope.ENTRIES, Scope.OPS_READ)
    for text in ("", "entries,", "entries,root"):
        with pytest.raises(InvalidField, match="known are entries, orders, ops:read, ops:write, admin"):
            parse(text)
