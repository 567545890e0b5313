"""The edge with an express lane: a single entry waits for its body here and then goes to web/express.py, not to the application."""

from functools import partial
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from web.edge import Edge
from web.express import STATE, Express, Plain


class Lane(Edge):
    """One connection. `_held` is the request whose body is still to come, which Express wants."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's own arguments
        super().__init__(*args, **kwargs)
        self._express: Express | None = self.app_state.get(STATE)
        self._held: tuple[RequestResponseCycle, Any, Plain] | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        plain = self._express.wants(cycle) if self._express is not None else None
        if plain is None:
            super()._start_asgi_task(cycle, app)
            return
        self._working, self._held = cycle, (cycle, app, plain)
        if not cycle.more_body:
            self._release()

    def _release(self) -> None:
        if self._held is not None and self._express is not None:
            (cycle, app, plain), self._held = self._held, None
            by_the_application = partial(super()._start_asgi_task, cycle, app)
            if cycle.more_body or not self._express.take(cycle, plain, by_the_application):
                by_the_application()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self._held is not None and len(self.cycle.body) > HIGH_WATER_LIMIT:
            self._release()  # only who reads resumes the reading

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._release()
