"""A mall without processes, for scenes with a planted bug: clients, two workers and a scheduler by hand, the harness' own judge.

A worker is killed before each of its commands in turn, or another one overtakes it there: what it sent last may have been done,
and it never heard of that. A client sends again until it is answered, and once more. All is recorded as in a run of the harness.
"""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import redis.asyncio.connection
import uvicorn
from asking import Ask
from carriers import Carrier
from checker import Violation, check
from hands import LEASE_S, Hands
from history import History, Kind, Op, read
from killing import Killed
from ledger import ENTRIES, Ledger
from mall_floor import Floor
from observed import observe
from processes import wait_for
from sampler import Sampler
from scheduler_engines import before_each_command
from starlette.applications import Starlette

from jobs import connections
from jobs.errors import Conflict
from jobs.mall import entries
from jobs.mall.carrier_log import EffectLog
from jobs.mall.carrier_service import Carrier as CarrierService
from jobs.mall.reconcile import reconcile
from jobs.queue import calling
from jobs.queue.overview import queue_names
from jobs.queue.samples import add
from jobs.queue.task import Task
from jobs.settings import current
from scheduler.duty import Duty
from scheduler.foreign import Foreign
from scheduler.promote import Promotion
from scheduler.reclaim import Reclamation
from scheduler.registries import Registries
from scheduler.sweep import Sweep

SKU, ON_HAND = "85123A", 1_000
MOST_COMMANDS = 60
PASSES = 6
PASS_S = 5.0
LIMIT_S = 90.0


class Stage:
    """A mall without processes: clients, two workers and a scheduler by hand, and the record of what was asked."""

    def __init__(self, history: History, carrier: Carrier) -> None:
        self._url = str(current().redis_url)
        self.client = connections.process_client()
        self.client.flushall()
        self.history = history
        self.carrier = carrier
        self.first, self.second = Hands(self.client, "first"), Hands(self.client, "second")
        self.floor = Floor(self.client, Ask(self._url), current())
        self._ask = Ask(self._url)
        self._numbers = itertools.count(1)
        self.put(SKU, ON_HAND)

    # --- what clients do: again and again until they are answered, and once more later --------------------------------

    def put(self, sku: str, on_hand: int) -> None:
        """Sets the stock."""
        self._recorded(Op.STOCK, sku, {"n": on_hand}, lambda: (self.floor.put(sku, on_hand), {})[1])

    def order(self) -> str:
        """An order of the SKU whose stock is tracked; returns its id."""
        key = f"o{next(self._numbers)}"

        def send() -> dict[str, Any]:
            accepted = self.floor.accept((SKU, 2), key=key, reference=key)
            return {"answer": accepted.order_id, "replayed": accepted.replayed}

        return str(self._recorded(Op.ORDER, key, {}, send)["answer"])

    def cancel(self, order_id: str) -> None:
        """Cancels the order, if that is still allowed."""
        self.history.append(Kind.INVOKE, Op.CANCEL, order_id)
        try:
            self.floor.cancel(order_id)
        except Conflict:
            self.history.append(Kind.FAIL, Op.CANCEL, order_id, status=409)
        else:
            self.history.append(Kind.OK, Op.CANCEL, order_id, status=200)

    def entry(self) -> None:
        """One event, sent twice."""
        key, now = f"e{next(self._numbers)}", time.time()
        body = msgspec.json.encode({"gate": "main", "event_id": f"{key}-0"})
        event = entries.parse(body, settings=current(), zone=ZoneInfo("UTC"), now=now)

        def send() -> dict[str, Any]:
            [new] = self._ask(partial(entries.ingest, entries=[event], settings=current(), now=now))
            return {"accepted": int(new), "duplicates": int(not new)}

        minute = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now))
        self._recorded(Op.ENTRY, key, {"n": 1, "people": 1, "gate": "main", "minute": minute}, send)

    def job(self, function: Task = add, *args: Any, expected: Any = 5, failures: int = 0, due_in_s: float | None = None) -> str:
        """A job of the task that is to fail so often; returns its id."""
        job_id, now = f"j{next(self._numbers)}", time.time()
        due_at = None if due_in_s is None else now + due_in_s
        spec = function.build(function.defaults, args or (2, 3), {}, job_id=job_id, now=now, due_at=due_at)

        def send() -> dict[str, Any]:
            job_id, new = calling.place(self.client, spec, now=now, due_at=due_at)
            return {"answer": job_id, "replayed": not new}

        self._recorded(Op.JOB, job_id, {"expected": expected, "failures": failures}, send)
        return job_id

    def _recorded(self, op: Op, key: str, sent: dict[str, Any], send: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Sends it, killed before each command in turn, until it is answered; then once more."""
        for n in itertools.count(1):
            self.history.append(Kind.INVOKE, op, key, **sent)
            try:
                with killed_at(n):
                    answer = send()
            except Killed:
                self.history.append(Kind.INFO, op, key, error="the connection broke")
                continue
            self.history.append(Kind.OK, op, key, status=202, **answer)
            break
        self.history.append(Kind.INVOKE, op, key, repeat=True, **sent)
        self.history.append(Kind.OK, op, key, repeat=True, status=202, **send())
        return answer

    # --- what is done to workers ------------------------------------------------------------------------------------------

    def killed_everywhere(self, prepare: Callable[[], object], work: Callable[[Any], object]) -> None:
        """Does the work on something new each time, and dies before the first command, the second, ... until it comes to its end.

        The other worker goes on each time.
        """
        for n in range(1, MOST_COMMANDS):
            prepared = prepare()
            try:
                with killed_at(n):
                    did = work(prepared)
            except Killed:
                for queue in queue_names(self.client):
                    self.second.reclaim(queue)
                self.second.work_off(*queue_names(self.client))
                continue
            assert did is not False, "there is nothing to be done"
            return
        raise AssertionError("the work comes to no end")

    def overtaken_everywhere(self, prepare: Callable[[], object], queue: str, other: Callable[[Any], object]) -> None:
        """The first worker does a job of the queue, and stands still before each command in turn while the other one acts."""
        for n in range(1, MOST_COMMANDS):
            prepared, reached = prepare(), False

            def overtake(number: int, n: int = n, prepared: object = prepared) -> None:
                nonlocal reached
                if number == n:
                    reached = True
                    self.second.reclaim(queue)
                    other(prepared)

            with before_each_command(overtake):
                self.first.work(queue)
            if not reached:
                assert n > 2, "there is nothing to be done"
                return
        raise AssertionError("the work comes to no end")

    def recover(self) -> None:
        """Time passes, as the scheduler sees it, and a worker does what there is."""
        client, now = self.client, time.time() + LEASE_S
        foreign = Foreign(client)
        duties: list[Duty] = [
            Reclamation(client),
            Sweep(client),
            Registries(client),
            Promotion(client, lambda *_: {}, foreign.due),
        ]
        for _ in range(PASSES):
            now += PASS_S
            for duty in duties:
                duty.tick(now)
            reconcile(client, now=now, after_s=0.0)
            self.second.promote()
            self.second.work_off(*queue_names(client))

    def judged(self) -> list[Violation]:
        """What the harness' checker says to all that was asked and to what is there now."""
        ended = asyncio.Event()
        ended.set()
        asyncio.run(Sampler(self.history, (), self._url, ()).run(ended))
        self.history.close()
        history = read(self.history.path)
        ledger = Ledger.of(history)
        if any(ledger.told[op] for op in ENTRIES):
            with serving("web.app:create_app", 0) as web_url:
                return check(history, observe(ledger, self.client, web_url, self.carrier.url, 0), ledger)
        return check(history, observe(ledger, self.client, "", self.carrier.url, 0), ledger)


@contextmanager
def killed_at(n: int) -> Iterator[None]:
    """The n-th command is not sent any more, on whatever connection: Killed is raised."""
    number, plain = itertools.count(1), redis.asyncio.connection.AbstractConnection.send_packed_command

    def strike(_number: int = 0) -> None:
        if next(number) == n:
            raise Killed

    async def send(self: Any, *args: Any, **kwargs: Any) -> None:
        strike()
        await plain(self, *args, **kwargs)

    redis.asyncio.connection.AbstractConnection.send_packed_command = send
    try:
        with before_each_command(strike):
            yield
    except Killed:
        connections.process_client().connection_pool.disconnect()  # a new process has new ones
        raise
    finally:
        redis.asyncio.connection.AbstractConnection.send_packed_command = plain


@contextmanager
def serving(app: Starlette | str, port: int) -> Iterator[str]:
    """An application, or what makes it, on a thread of this process, and its URL; port 0 takes a free one."""
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, factory=isinstance(app, str), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started, LIMIT_S, "the server listens")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def theatre(folder: Path) -> Iterator[Callable[[str, Callable[[Stage], None]], list[Violation]]]:
    """Has a scene played on an empty mall, whose carrier is where CARRIER_URL says; returns what the checker finds."""
    port = int(current().carrier_url.rpartition(":")[2])
    service = CarrierService(EffectLog(folder / "carrier"))

    def play(name: str, scene: Callable[[Stage], None]) -> list[Violation]:
        service.log = EffectLog(folder / f"{name}.carrier")
        carrier.tell(mode="ok")
        stage = Stage(History(folder / name), carrier)
        scene(stage)
        stage.recover()
        return stage.judged()

    with serving(service.app(), port) as url:
        carrier = Carrier(url)
        yield play
        carrier.close()
