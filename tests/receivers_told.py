"""A running receiver of webhooks, and what it was told."""

import json
import re
from pathlib import Path
from typing import Any

from processes import Process, Processes

SECRET = b"a secret of 24 bytes ...".ljust(24, b".")
ENVIRON = {
    "TURNSTILE_WEBHOOK_SECRETS": "whsec_YSBzZWNyZXQgb2YgMjQgYnl0ZXMgLi4u",
    "TURNSTILE_WEBHOOK_ALLOW": "127.0.0.0/8,::1/128",
}


class Receiver:
    """receiver.py as a process."""

    def __init__(self, processes: Processes, folder: Path, *tls: str) -> None:
        self._log = folder / "received.jsonl"
        self._log.touch()
        script = str(Path(__file__).parent / "receiver.py")
        self.process: Process = processes.start("python", script, str(self._log), *tls)
        self.process.prints("://")
        found = re.search(r"https?://\S+", self.process.output)
        self.url = found.group() if found else ""

    def told(self, name: str) -> list[dict[str, Any]]:
        """Every request that came to the name: `headers` and `body`, the latter decoded."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line | {"event": json.loads(line["body"])} for line in lines if line["name"] == name]

    def statuses(self, name: str) -> list[str]:
        """The statuses of the order in the order in which they were told."""
        return [line["event"]["type"].removeprefix("order.") for line in self.told(name)]
