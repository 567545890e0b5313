"""Which scopes a request needs: what its operation says, and an operator's for everything that is no operation.

So a path that nobody thought of is never open: the pages, rq-dashboard and what is not there are an operator's too.
"""

from collections.abc import Sequence

from starlette.routing import compile_path

from jobs.access.scopes import ALL, Scope
from web.operation import SAFE_METHODS, TO_CHANGE, TO_LOOK, Operation

FOR_ANY_KEY = ("/docs", "/openapi.json")
"""What the API is can be read with any key."""


class Rules:
    """`needs(method, path)`: one of these scopes; empty when no key is needed."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        said = [operation for operation in operations if operation.scopes is not None]
        self._exact = {(one.method, one.path): one.needs() for one in said if "{" not in one.path}
        self._patterns = [(one.method, compile_path(one.path)[0], one.needs()) for one in said if "{" in one.path]

    def needs(self, method: str, path: str) -> frozenset[Scope]:
        """The path as the router sees it."""
        method = "GET" if method == "HEAD" else method
        found = self._exact.get((method, path))
        if found is not None:
            return found
        for its_method, pattern, needs in self._patterns:
            if method == its_method and pattern.match(path):
                return needs
        if method in SAFE_METHODS:
            return ALL if path in FOR_ANY_KEY or path.startswith("/docs/") else TO_LOOK
        return TO_CHANGE
