"""A server that can be put back to what it held some time ago, as a failover to a replica that lags behind does it."""

import shutil
import signal

from servers import Server

AOF = "appendonlydir"


class Restorable(Server):
    """`remember` and later `go_back`: what was written in between is lost, though it was acknowledged."""

    def remember(self) -> None:
        """Copies the data while the server stands still: an instant between two commands, or within one nobody was answered."""
        if self._process is None:
            raise AssertionError("the server does not run")
        self._process.send_signal(signal.SIGSTOP)
        try:
            shutil.copytree(self.folder / AOF, self.folder / "copy")
        finally:
            self._process.send_signal(signal.SIGCONT)

    def go_back(self) -> None:
        """SIGKILL, then a start with the copied data on the same address."""
        self.kill()
        shutil.rmtree(self.folder / AOF)
        (self.folder / "copy").rename(self.folder / AOF)
        self.start()
