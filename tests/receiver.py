"""A receiver of webhooks, as a process: `python receiver.py LOG [CERTIFICATE KEY]` prints its URL.

What it does stands in the URL that it is sent to, /<name>?status=503&times=2&...: the first `times` requests (all by default) are
answered with `status` and `retry_after`, after `delay_s`, with a body of so many `bytes`; `lose=1` acts and drops the connection.
Requests behind them get 204. Every request is in LOG, a line of JSON, before it is answered.
"""

import json
import ssl
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LOCK = threading.Lock()
SEEN: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    log_path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()

    def do_POST(self) -> None:
        """Notes the request and does what its URL says."""
        parts = urlsplit(self.path)
        wish = dict(parse_qsl(parts.query))
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        line = {
            "name": parts.path[1:],
            "at": time.time(),
            "headers": {k.lower(): v for k, v in self.headers.items()},
            "body": body,
        }
        with LOCK, self.log_path.open("a") as log:
            log.write(json.dumps(line) + "\n")
            SEEN[parts.path] += 1
            is_odd = SEEN[parts.path] <= int(wish.get("times", 10**9))
        if is_odd:
            time.sleep(float(wish.get("delay_s", 0)))
        if is_odd and "lose" in wish:
            self.close_connection = True
            return
        self.send_response(int(wish.get("status", 204)) if is_odd else 204)
        if is_odd and "retry_after" in wish:
            self.send_header("Retry-After", wish["retry_after"])
        if is_odd and "location" in wish:
            self.send_header("Location", wish["location"])
        length = int(wish.get("bytes", 0)) if is_odd else 0
        self.send_header("Content-Length", str(length))
        self.end_headers()
        for _ in range(0, length, 1_024):
            self.wfile.write(b"x" * 1_024)

    def log_message(self, *_args: Any) -> None:
        """Nothing: the log is elsewhere."""


def main() -> None:
    """Serves until it is killed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if len(sys.argv) > 2:
        scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"{scheme}://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
