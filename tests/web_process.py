"""`python -m web` as a process that a test may kill and start again on the same port."""

import httpx
from processes import Process, Processes, wait_for

START_LIMIT_S = 60.0


class Web:
    """One web process with these settings."""

    def __init__(self, processes: Processes, port: int, **environ: str) -> None:
        self._processes = processes
        self._environ = {**environ, "PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        self.process: Process

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.process = self._processes.start("python", "-m", "web", **self._environ)
        wait_for(self._answers, START_LIMIT_S, f"the web answers at {self.url}")

    def _answers(self) -> bool:
        assert self.process.runs, self.process.output
        try:
            return httpx.get(f"{self.url}/livez", trust_env=False, timeout=5).is_success
        except httpx.TransportError:
            return False
