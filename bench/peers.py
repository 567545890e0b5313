"""The contenders: ours in this environment, every other library in a virtual environment of its own under .bench/.

The versions are pinned, so that a run can be repeated; what is missing is installed with pip at the first run.
To be imported before `jobs`, which it makes importable for `python bench/...`.
"""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
CACHE = ROOT / ".bench"
REDIS_PY = "redis[hiredis]==8.1.0"

ENVIRON = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}", "TURNSTILE_SAMPLES": "1"}
"""For processes that import contenders or `jobs`."""
sys.path.append(str(ROOT))


@dataclass(frozen=True, slots=True)
class Contender:
    """A library and what its environment needs; ours needs none. `name` is its module's in contenders/."""

    name: str
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Library and version."""
        return self.needs[0].replace("[redis]==", "==").replace("==", " ") if self.needs else OWN_TITLES[self.name]

    def python(self) -> str:
        """The interpreter that has it; makes the environment when there is none for these versions."""
        if not self.needs:
            return sys.executable
        folder = CACHE / self.name
        python, done = folder / "bin" / "python", folder / "installed"
        wanted = "\n".join(self.needs)
        if not done.exists() or done.read_text() != wanted:
            CACHE.mkdir(exist_ok=True)
            (CACHE / ".gitignore").write_text("*\n")
            venv.create(folder, clear=True, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *self.needs], check=True)
            done.write_text(wanted)
        return str(python)


OWN_TITLES = {"ours": "turnstile", "ping": "a bare PING"}
OURS = Contender("ours")
FLOOR = Contender("ping")
STOCK = Contender("stock_rq", ("rq==2.12.0", REDIS_PY))
CONTENDERS = (
    OURS,
    FLOOR,
    STOCK,
    Contender("with_celery", ("celery[redis]==5.7.0", REDIS_PY)),
    Contender("with_dramatiq", ("dramatiq==2.2.1", REDIS_PY)),
    Contender("with_huey", ("huey==3.5.4", REDIS_PY)),
    Contender("with_saq", ("saq==0.26.4", "typing_extensions==4.15.0", REDIS_PY)),
    Contender("with_taskiq", ("taskiq-redis==1.2.4", REDIS_PY, "uvloop==0.23.0")),
    Contender("with_arq", ("arq==0.28.0", "hiredis==3.5.0")),
    Contender("with_repid", ("repid[redis]==2.1.4", "hiredis==3.5.0", "uvloop==0.23.0", "typing_extensions==4.15.0")),
    Contender("with_wakaq", ("wakaq==4.0.4", REDIS_PY)),
)
