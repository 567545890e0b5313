"""A device at a gate. It loses no event and has none counted twice, whatever happens to it, the network or the server.

    python device.py http://mall:8000 events.ndjson "main door"     one event a line on stdin: in, out, or in 3

An event is on disk, with its id, before it is sent. It is sent, with the same id, until it is answered; only then does
the position behind it go to disk. A power cut in between sends it again: a duplicate, which the server counts once.
"""

import json
import os
import random
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx

MAX_EVENTS = 10_000
MAX_BYTES = 1_000_000
FULL = 64 * MAX_BYTES
BASE_S, CAP_S = 0.5, 60.0


class Spool:
    """Events on disk: one JSON line each, and how many bytes of them have been answered."""

    def __init__(self, path: Path) -> None:
        self._sent_path, self._lock = path.with_suffix(".sent"), threading.Lock()
        self._file = path.open("a+b")
        self._file.seek(0)
        written = self._file.read()
        self._file.truncate(written.rfind(b"\n") + 1)  # a power cut may leave half a line: that event was not recorded
        self._sent = int(self._sent_path.read_text()) if self._sent_path.exists() else 0
        self.at_once = MAX_EVENTS

    def add(self, event: dict[str, object]) -> None:
        """Returns when the event is on disk."""
        with self._lock:
            self._file.write(json.dumps(event).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def next(self) -> bytes:
        """The oldest lines that have not been answered, as many as one request takes."""
        with self._lock:
            self._file.seek(self._sent)
            found = self._file.read(MAX_BYTES)
        lines = found[: found.rfind(b"\n") + 1].splitlines(keepends=True)
        return b"".join(lines[: self.at_once])

    def done(self, size: int) -> None:
        """So many more bytes have been answered. A file that has been sent whole, and is large, is emptied."""
        with self._lock:
            self._sent += size
            if self._sent < FULL or self._sent < self._file.seek(0, os.SEEK_END):
                self._write_sent()
                return
            self._sent = 0
            self._write_sent()  # first: should the power go before the next line, all is sent again
            self._file.truncate(0)

    def _write_sent(self) -> None:
        fresh = self._sent_path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(str(self._sent))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._sent_path)
        folder = os.open(fresh.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def send(client: httpx.Client, spool: Spool, stop: threading.Event) -> None:
    """Sends what is in the spool until `stop` is set and nothing is left."""
    failures = 0
    while True:
        ends = stop.is_set()  # asked first: an event that comes in between is still sent
        if lines := spool.next():
            wait_s = attempt(client, lines, spool, failures)
            failures = 0 if wait_s is None else failures + 1
            time.sleep(wait_s or 0.0)
        elif ends:
            return
        else:
            stop.wait(0.1)


def attempt(client: httpx.Client, lines: bytes, spool: Spool, failures: int) -> float | None:
    """One request: None when it was answered for good, else how long to wait before the same is sent again."""
    alone = lines.count(b"\n") == 1
    kind = "application/json" if alone else "application/x-ndjson"
    asked_s, said = 0.0, ""
    try:
        answer = client.post("/v1/entries", content=lines, headers={"Content-Type": kind})
        if answer.status_code == 202 or (alone and answer.status_code in (400, 413, 422)):
            for refused in answer.json().get("rejected", []) if answer.is_success else [answer.text]:
                print("refused for good:", refused, file=sys.stderr)
            spool.done(len(lines))
            return None
        if answer.status_code == 413:
            spool.at_once = max(1, lines.count(b"\n") // 2)
        after = answer.headers.get("Retry-After", "")
        asked_s, said = float(after) if after.isdigit() else 0.0, str(answer.status_code)
    except httpx.TransportError as error:
        said = type(error).__name__
    # 401 and 403 too: an operator will give the device another key, and the events are still there.
    wait_s = asked_s + random.uniform(0, min(CAP_S, BASE_S * 2 ** min(failures, 10)))
    print(f"{said}: again in {wait_s:.1f} s", file=sys.stderr)
    return wait_s


def main(url: str, path: str, gate: str) -> None:
    """Counts until stdin ends, and ends when everything was answered."""
    spool, stop = Spool(Path(path)), threading.Event()
    key = os.environ.get("DEVICE_KEY", "")
    with httpx.Client(base_url=url, timeout=15, headers={"Authorization": f"Bearer {key}"} if key else {}) as client:
        sender = threading.Thread(target=send, args=(client, spool, stop))
        sender.start()
        for line in sys.stdin:
            direction, _, count = line.strip().partition(" ")
            now = datetime.now(UTC).isoformat()
            spool.add({"gate": gate, "event_id": uuid.uuid4().hex, "at": now, "direction": direction, "count": int(count or 1)})
        stop.set()
        sender.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
