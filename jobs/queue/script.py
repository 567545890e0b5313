"""Lua scripts in files: one atomic operation a file, loaded once, callable on sync and async clients.

A script may begin with lines `--! include name.lua`; the named library, looked for beside the
script and then in jobs/queue, is put in front. The file's head is its contract: KEYS, ARGV, RETURNS, COST.

A client can act for an epoch (`act_for`): then epoch.lua goes in front of every script that it sends, which Redis
refuses once the epoch has changed. It is a matter of the client, so that no caller can forget it.
"""

import copy
import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

INCLUDE = re.compile(r"^--! include (\S+\.lua)$", re.MULTILINE)
COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
"""Whole lines: in a MULTI a script is sent with its source."""
QUEUE_DIR = Path(__file__).parent
EPOCH = QUEUE_DIR / "epoch.lua"

Argument = str | bytes | int | float


class Script:
    """One Lua script. Known to the server by its SHA-1, sent whole when the server does not have it."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.source = COMMENT.sub("", _with_includes(path)).encode()
        self.sha = _sha(self.source)

    @functools.cached_property
    def guarded(self) -> "Script":
        """The same script behind epoch.lua."""
        guarded = copy.copy(self)
        guarded.source = COMMENT.sub("", EPOCH.read_text(encoding="utf-8")).encode() + self.source
        guarded.sha = _sha(guarded.source)
        return guarded

    def __call__(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Runs the script. `Any`: its RETURNS line says what comes back."""
        sent, keys, args = _for(client, self, keys, args)
        try:
            return _execute(client, *_evalsha(sent, keys, args))
        except redis.exceptions.NoScriptError:
            return client.eval(sent.source, len(keys), *keys, *args)

    async def run(self, client: redis.asyncio.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """The async twin of calling the script."""
        try:
            return await client.evalsha(self.sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return await client.eval(self.source, len(keys), *keys, *args)

    def in_multi(self, pipeline: redis.client.Pipeline, keys: Sequence[str], args: Sequence[Argument]) -> None:
        """Adds the script to a MULTI. Sent whole: one that the server lacks would fail alone while the rest of EXEC goes on."""
        sent, keys, args = _for(pipeline, self, keys, args)
        pipeline.eval(sent.source, len(keys), *keys, *args)

    def in_pipeline(self, pipeline: redis.client.Pipeline, keys: Sequence[str], args: Sequence[Argument]) -> None:
        """Adds the script to a pipeline without MULTI, by its SHA-1; `load` comes first."""
        sent, keys, args = _for(pipeline, self, keys, args)
        pipeline.evalsha(sent.sha, len(keys), *keys, *args)


Invocation = tuple[Script, Sequence[str], Sequence[Argument]]
"""A script with its KEYS and ARGV."""


def act_for(client: redis.Redis, epoch: str | None) -> None:
    """From now on every script of the client's pool is refused unless this is the epoch; None ends that."""
    client.connection_pool.epoch = epoch  # ours, on redis-py's object: its pipelines have the same pool


def is_stale(error: BaseException) -> bool:
    """Whether Redis refused a script, alone or in a pipeline, because its client's epoch is over."""
    return isinstance(error, redis.exceptions.ResponseError) and "STALE another" in str(error)


def _for(client: redis.Redis, wanted: Script, keys: Sequence[str], args: Sequence[Argument]) -> Invocation:
    epoch: str | None = getattr(client.connection_pool, "epoch", None)
    return (wanted, keys, args) if epoch is None else (wanted.guarded, keys, [*args, epoch])


def _sha(source: bytes) -> str:
    return hashlib.sha1(source, usedforsecurity=False).hexdigest()


@functools.cache
def script(path: Path) -> Script:
    """The script in the file; read once."""
    return Script(path)


def beside(module_file: str, name: str) -> Script:
    """The script `name.lua` in the folder of the module that asks."""
    return script(Path(module_file).parent / f"{name}.lua")


def exchange(client: redis.Redis, invocations: Sequence[Invocation]) -> list[Any]:
    """Runs many scripts in one round trip, without a MULTI, and returns their answers in order; of one that fails, its error.

    When the connection breaks it raises, and nobody knows which of the scripts have run: nothing is sent a second time, since a
    claim that is sent twice claims twice. A connection that had broken before, as all have when Redis was restarted, costs
    no such doubt: the pool looks at each that it lends, finds the end of the stream on it, and connects anew.
    """
    invocations = [_for(client, *invocation) for invocation in invocations]
    with _lent(client) as connection:
        answers = _ask(connection, [_evalsha(*invocation) for invocation in invocations])
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
        if unknown:
            sources = {invocations[i][0].source for i in unknown}
            commands = [("SCRIPT", "LOAD", source) for source in sources] + [_evalsha(*invocations[i]) for i in unknown]
            for i, answer in zip(unknown, _ask(connection, commands)[len(sources) :], strict=True):
                answers[i] = answer
        return answers


def _evalsha(wanted: Script, keys: Sequence[str], args: Sequence[Argument]) -> tuple[Argument, ...]:
    return ("EVALSHA", wanted.sha, len(keys), *keys, *args)


def _ask(connection: redis.Connection, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
    connection.send_packed_command([b"".join(piece for command in commands for piece in connection.pack_command(*command))])
    return [_answer(connection) for _ in commands]


def _answer(connection: redis.Connection) -> Any:
    try:
        return connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error


def _execute(client: redis.Redis, *command: Argument) -> Any:
    """redis-py's `execute_command` without its metrics, which cost as much as a script: same pool, health check, retries."""
    with _lent(client) as connection:
        packed = connection.pack_command(*command)

        def attempt() -> Any:
            connection.send_packed_command(packed)
            return connection.read_response()

        return connection.retry.call_with_retry(attempt, lambda _error: connection.disconnect())


@contextmanager
def _lent(client: redis.Redis) -> Iterator[redis.Connection]:
    """A connection of the client's pool."""
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        yield connection
    except redis.exceptions.ResponseError:
        raise
    except BaseException:  # a broken exchange, or a time limit: an answer may still come, and would be the next command's
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _with_includes(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    libraries = []
    for name in INCLUDE.findall(text):
        local = path.parent / name
        libraries.append((local if local.exists() else QUEUE_DIR / name).read_text(encoding="utf-8"))
    return "\n".join([*libraries, text])


def load(client: redis.Redis, *scripts: Script) -> None:
    """Makes sure in one round trip that the server has the scripts, before many calls of them share a pipeline."""
    with client.pipeline(transaction=False) as pipeline:
        for wanted in scripts:
            pipeline.script_load(_for(client, wanted, (), ())[0].source)
        pipeline.execute()
