"""The small carrier service as a process, told how to behave and asked what it has booked."""

from typing import Any

import httpx


class Carrier:
    """A client of the running service."""

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
