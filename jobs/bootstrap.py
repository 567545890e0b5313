"""Makes `.venv` from a hashed lock, on a machine with nothing but Python and its venv module.

A stamp, written last, says what `.venv` holds; while it matches, nothing is done. An install
that was killed left a marker and no stamp, and is repeated from an empty folder. Only the
standard library, and nothing that Python 3.8 cannot read (see __main__.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator  # noqa: UP035  Python 3.8 has no generic collections.abc

OLDEST = (3, 11)
PRODUCTION_LOCK = "requirements.txt"
TEST_LOCK = "tests/requirements.txt"
STAMP = "installed.json"
MARKER = "installing"
LOG = "install.log"
LOG_TAIL = 15
LOG_WIDTH = 200
PIN = re.compile(r"^[A-Za-z0-9_.-]+==\S+", re.MULTILINE)

# What identifies a Python that can use the same compiled packages; also run inside `.venv`.
IDENTITY = "import os,sys; print(sys.implementation.cache_tag + sys.abiflags, sys.platform, os.uname().machine)"

WRONG_HASH = ("do not match the hashes", "hash mismatch", "hashes are required")
NO_DISK = ("no space left on device", "permission denied", "read-only file system", "disk quota exceeded")
NO_NETWORK = (
    "newconnectionerror", "connection refused", "connecttimeout", "readtimeout", "proxyerror", "sslerror", "dns error",
    "network is unreachable", "name or service not known", "name resolution", "client error (connect)", "error sending request",
)  # fmt: skip


class CannotInstall(Exception):
    """Raised when `.venv` cannot be made; the text says why and what to do."""


def check_python(version: tuple[int, ...]) -> None:
    """Refuses a Python that is too old, and names a newer one when there is one."""
    if version[:2] >= OLDEST:
        return
    newer = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
    fix = f"start with `{newer[0]} -m jobs`" if newer else "install one and start with it, for example `python3.13 -m jobs`"
    raise CannotInstall(f"Python 3.11 or newer is needed, this is {version[0]}.{version[1]}; {fix}")


def runs_inside(root: Path) -> bool:
    """Tells whether this interpreter is that of `.venv`."""
    return os.path.realpath(sys.prefix) == os.path.realpath(root / ".venv")


def ensure(root: Path, lock: str) -> Path:
    """The Python of `.venv`, after making sure that the packages of the lock are in it. Raises CannotInstall."""
    venv = root / ".venv"
    if not is_ready(root, lock):
        try:
            with _one_at_a_time(root) as turn:
                if not is_ready(root, lock):  # another process may have installed it meanwhile
                    _install(root, lock, turn)
        except OSError as error:
            raise CannotInstall(f"{venv} cannot be written: {error}; mend that, or copy the project to another place") from error
    return venv / "bin" / "python"


def is_ready(root: Path, lock: str) -> bool:
    """Tells whether `.venv` holds the lock as it is now, in this place and for this Python."""
    try:
        stamp = json.loads((root / ".venv" / STAMP).read_text())
        known = (stamp["venv"], stamp["python"], stamp["locks"].get(lock))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return known == (str(root / ".venv"), _identity(), _digest(root / lock)) and (root / ".venv" / "bin" / "python").exists()


def covered_locks(root: Path, lock: str) -> dict[str, str]:
    """The digests of the locks whose packages are all there once `lock` is installed."""
    pins = set(PIN.findall((root / lock).read_text()))
    candidates = [name for name in (PRODUCTION_LOCK, TEST_LOCK) if name == lock or (root / name).exists()]
    return {name: _digest(root / name) for name in candidates if set(PIN.findall((root / name).read_text())) <= pins}


def explain(output: str, lock: str) -> str:
    """Why an install failed, from what the installer wrote."""
    output = output.lower()
    if any(sign in output for sign in WRONG_HASH):
        return (
            f"a package does not have the hash that {lock} promises, so nothing of it was installed; "
            f"bring the lock back with `git checkout {lock}`, and if that does not help, ask who changed the package"
        )
    if any(sign in output for sign in NO_DISK):
        return "the disk is full or cannot be written; make room or mend the rights, and start again"
    if any(sign in output for sign in NO_NETWORK):
        return (
            "the package index cannot be reached, and the first start needs it once; "
            "check the network, the proxy (HTTPS_PROXY) and the index that pip or uv is set to, and start again"
        )
    return "the installer failed; its last lines say why"


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[int]:
    """A lock file's descriptor. The installer inherits it: one whose parent was killed still keeps others out of `.venv`."""
    with (root / ".venv.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another process installs into .venv; waiting for it ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def _install(root: Path, lock: str, turn: int) -> None:
    venv = root / ".venv"
    uv = shutil.which("uv")
    _check_modules(uv)
    if venv.exists() and not _is_usable(venv, uv):
        _say(".venv is incomplete or was made in another place or by another Python; making it anew")
        shutil.rmtree(venv)
    venv.mkdir(exist_ok=True)
    (venv / MARKER).touch()
    (venv / STAMP).unlink(missing_ok=True)
    text = (root / lock).read_text()
    began = time.monotonic()
    _say(f"installing {len(PIN.findall(text))} packages into .venv ...")
    python = venv / "bin" / "python"
    if not python.exists():
        without_pip = ["--without-pip"] if uv else []
        # The base interpreter: a venv made from a venv would break when that one goes.
        _run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", *without_pip, str(venv)], root, lock, turn)
    if uv:
        command = [uv, "pip", "install", "--python", str(python), "--require-hashes", "--no-deps", "-r", lock]
    else:
        command = [str(python), "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", lock]
        command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--retries", "2"]
    _run(command, root, lock, turn)
    stamp = {"venv": str(venv), "python": _identity(), "locks": covered_locks(root, lock)}
    new = venv / (STAMP + ".new")
    new.write_text(json.dumps(stamp, indent=2) + "\n")
    new.replace(venv / STAMP)
    (venv / MARKER).unlink()
    _say(f"installed in {time.monotonic() - began:.1f} s")


def _check_modules(uv: str | None) -> None:
    needed = ("venv",) if uv else ("venv", "ensurepip")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotInstall(
            f"this Python ({sys.executable}) has no {' and no '.join(missing)} module, which .venv is made with; "
            "on Debian or Ubuntu run `apt install python3-venv` as root, then start again"
        )


def _is_usable(venv: Path, uv: str | None) -> bool:
    """Whether an install may go on top of what is there: complete, made here, by this Python, and with pip where it is needed."""
    if (venv / MARKER).exists():
        return False
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads((venv / STAMP).read_text())["venv"] != str(venv):
            return False
    probe = IDENTITY if uv else "import pip; " + IDENTITY
    try:
        said = subprocess.run([str(venv / "bin" / "python"), "-c", probe], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return said.returncode == 0 and said.stdout.decode().strip() == _identity()


def _run(command: list[str], root: Path, lock: str, turn: int) -> None:
    log = root / ".venv" / LOG
    # A `user = true` in pip's configuration cannot work in a venv; the environment wins over it.
    env = {**os.environ, "PIP_USER": "0"}
    with log.open("ab") as output:
        start = output.tell()
        code = subprocess.run(
            command, cwd=str(root), env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(turn,)
        ).returncode
    if code != 0:
        text = log.read_bytes()[start:].decode(errors="replace")
        tail = "\n".join("  " + line[:LOG_WIDTH] for line in text.splitlines()[-LOG_TAIL:])
        raise CannotInstall(f"{explain(text, lock)}. The end of {log}:\n{tail}")


def _identity() -> str:
    return f"{sys.implementation.cache_tag}{sys.abiflags} {sys.platform} {os.uname().machine}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say(text: str) -> None:
    print(f"turnstile: {text}", file=sys.stderr, flush=True)
