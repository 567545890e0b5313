"""The small carrier service as a process, told how to behave and asked what it has booked."""

import re
from pathlib import Path
from typing import Any

import httpx
from processes import Processes


class Carrier:
    """A client of the running service."""

    @classmethod
    def started(cls, processes: Processes, folder: Path) -> "Carrier":
        """Starts the service, with its log in the folder, on a port that it takes itself."""
        log = str(folder / "effects.jsonl")
        process = processes.start("python", "-m", "jobs.mall.carrier_service", "--port", "0", "--log", log)
        process.prints("http://")
        return cls(re.findall(r"http://\S+", process.output)[0])

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def tell(self, **control: Any) -> None:
        """Changes its behaviour: see `Control` in jobs/mall/carrier_service.py."""
        self._client.post("/control", json=control).raise_for_status()

    def bookings(self, order_id: str) -> list[dict[str, Any]]:
        """The effects it has seen for the order: at most one."""
        found: list[dict[str, Any]] = self._client.get("/shipments", params={"key": f"{order_id}:deliver"}).json()["shipments"]
        return found

    def close(self) -> None:
        """Lets go of its connections."""
        self._client.close()
