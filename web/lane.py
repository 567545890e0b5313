"""The edge with an express lane: an entry or an order waits for its body here, then goes to web/express.py if that takes it."""

from typing import Any

from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from web.edge import Edge
from web.express import STATE, Call, Express


class Lane(Edge):
    """One connection. `_held` is a request for the express lane whose body is not here yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's own arguments
        super().__init__(*args, **kwargs)
        self._express: Express | None = self.app_state.get(STATE)
        self._held: Call | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._held = self._express.wants(cycle, self._hand_over) if self._express is not None else None
        if self._held is None:
            super()._start_asgi_task(cycle, app)
            return
        self._working = cycle
        if not cycle.more_body:
            self._release(self._held)

    def _release(self, held: Call) -> None:
        self._held = None
        if held.cycle.more_body or self._express is None or not self._express.take(held):
            self._hand_over(held.cycle, None)

    def _hand_over(self, cycle: RequestResponseCycle, app: ASGIApp | None) -> None:
        super()._start_asgi_task(cycle, app or self.app)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self._held is not None and len(self.cycle.body) > HIGH_WATER_LIMIT:
            self._release(self._held)  # the reading is resumed only by an application that reads

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._held is not None:
            self._release(self._held)
