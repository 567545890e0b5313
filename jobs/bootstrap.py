"""Makes `.venv` from a hashed lock, on a machine with nothing but Python and its venv module.

A stamp, written last, says what `.venv` holds. While it fits, nothing is done; without one (a
killed install), or with that of another place or Python, `.venv` is made anew. Only the standard
library, and nothing that Python 3.8 cannot read (see __main__.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")
PRODUCTION_LOCK = "requirements.txt"
TEST_LOCK = "tests/requirements.txt"  # with every pin of the other one
STAMP = "installed"
MAX_TAIL = 15

REASONS = {
    "do not match the hashes|hash mismatch": (
        "a package does not have the hash that {lock} promises, so nothing of it was installed; "
        "bring the lock back with `git checkout {lock}`, and if that does not help, ask who changed the package"
    ),
    r"connection broken|error sending request|client error \(connect\)|timed out|name resolution": (
        "the package index cannot be reached, and the first start needs it once; "
        "check the network, the proxy (HTTPS_PROXY) and the index that pip or uv is set to, and start again"
    ),
}
"""Why an install failed, by what the installers say then."""


class CannotInstall(Exception):
    """Raised when `.venv` cannot be made; the text says why and what to do."""


def check_python(version: tuple[int, ...]) -> None:
    """Refuses a Python that is too old, and names a newer one, if possible one that is here."""
    if version < OLDEST:
        newer = next(filter(shutil.which, NEWER), NEWER[0])
        text = f"Python 3.11 or newer is needed, this is {version[0]}.{version[1]}"
        raise CannotInstall(f"{text}; start with another one, for example `{newer} -m jobs`")


def ensure(root: Path, lock: str) -> Path:
    """The Python of `.venv`, after making sure that the packages of the lock are in it. Raises CannotInstall."""
    try:
        if not is_ready(root, lock):
            with (root / ".venv.lock").open("a+b") as turn:
                try:
                    fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    _say("another process installs into .venv; waiting for it ...")
                    fcntl.flock(turn, fcntl.LOCK_EX)
                if not is_ready(root, lock):  # another process may have installed it meanwhile
                    _install(root, lock, turn)
    except OSError as error:
        raise CannotInstall(f"{root}/.venv cannot be written: {error}; mend that, or copy the project elsewhere") from error
    return root / ".venv" / "bin" / "python"


def is_ready(root: Path, lock: str) -> bool:
    """Tells whether `.venv` holds the lock as it is now, in this place and for this Python."""
    return set(stamp(root, lock)) <= _found(root)


def stamp(root: Path, *locks: str) -> list[str]:
    """What `.venv` says of itself: for which place and Python it was made, and each lock that it holds, a line each."""
    made_for = f"{root} {sys.implementation.cache_tag}{sys.abiflags} {sys.platform} {os.uname().machine}"
    return [made_for, *(f"{lock} {hashlib.sha256((root / lock).read_bytes()).hexdigest()}" for lock in locks)]


def explain(output: str, lock: str) -> str:
    """Why an install failed, from what the installer wrote, and the end of that."""
    reasons = (text.format(lock=lock) for signs, text in REASONS.items() if re.search(signs, output, re.IGNORECASE))
    reason = next(reasons, "the installer failed")
    return "\n  ".join([f"{reason}. The end of what it said:", *output.splitlines()[-MAX_TAIL:]])


def _found(root: Path) -> set[str]:
    """What the stamp says; nothing without one, or without a Python that is still there."""
    try:
        return set((root / ".venv" / STAMP).read_text().splitlines()) if (root / ".venv/bin/python").exists() else set()
    except FileNotFoundError:
        return set()


def _install(root: Path, lock: str, turn: BinaryIO) -> None:
    venv = root / ".venv"
    python = str(venv / "bin" / "python")
    uv = shutil.which("uv")
    if None in map(importlib.util.find_spec, ["venv"] if uv else ["venv", "ensurepip"]):
        raise CannotInstall(
            f"this Python ({sys.executable}) has no venv module, or not all of it, and .venv is made with it; "
            "on Debian or Ubuntu run `apt install python3-venv` as root, then start again"
        )
    if venv.exists() and not set(stamp(root)) <= _found(root):
        _say(".venv is incomplete, or was not made here by this Python; making it anew")
        shutil.rmtree(venv)
    (venv / STAMP).unlink(missing_ok=True)
    _say(f"installing what {lock} names into .venv ...")
    began = time.monotonic()
    # The base interpreter: a venv made from a venv would break when that one goes.
    make = [getattr(sys, "_base_executable", sys.executable), "-m", "venv", *(["--without-pip"] if uv else []), str(venv)]
    install = (
        [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install", "--no-user", "--retries", "2"]
    )
    for command in (make, [*install, "--require-hashes", "--no-deps", "-r", lock]):
        turn.truncate(0)
        # What writes into the lock file holds the lock as well: an installer whose parent was killed keeps others out.
        done = subprocess.run(command, cwd=str(root), stdin=subprocess.DEVNULL, stdout=turn, stderr=turn)
        if done.returncode != 0:
            turn.seek(0)
            raise CannotInstall(explain(turn.read().decode(errors="replace"), lock))
    covered = (PRODUCTION_LOCK, TEST_LOCK) if lock == TEST_LOCK else (lock,)
    (venv / STAMP).write_text("\n".join(stamp(root, *covered)))
    _say(f"installed in {time.monotonic() - began:.1f} s")


def _say(text: str) -> None:
    print(f"turnstile: {text}", file=sys.stderr, flush=True)
