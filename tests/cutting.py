"""A front for a Redis on a unix socket that loses replies: what was asked has been done, and nobody hears of it."""

import contextlib
import select
import socket
import threading
from pathlib import Path

CHUNK = 1_048_576


class Cutting:
    """Passes everything on, but for what it was told to cut."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.url = f"unix://{folder}/front"
        self._to = redis_url.removeprefix("unix://")
        self._cut: tuple[bytes, int] | None = None
        self._times = 0
        self.cuts = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/front")
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, request: bytes, after: int = 0, times: int = 1) -> None:
        """The answers to the next requests with these bytes are lost but for the first `after` bytes, and the connections."""
        self._cut, self._times = (request, after), times

    def close(self) -> None:
        """Nobody is let in any more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server, contextlib.suppress(OSError):
            server.connect(self._to)
            cutting: int | None = None
            while True:
                ready = select.select([client, server], [], [])[0]
                for source, sink in ((client, server), (server, client)):
                    if source not in ready:
                        continue
                    data = source.recv(CHUNK)
                    if not data:
                        return
                    if source is client and self._cut is not None and self._cut[0] in data:
                        cutting, self._times = self._cut[1], self._times - 1
                        self._cut = self._cut if self._times else None
                    if source is server and cutting is not None:
                        sink.sendall(data[:cutting])
                        self.cuts += 1
                        return
                    sink.sendall(data)
