"""The keys that this process knows: most requests are let in without a round trip.

A key is read from Redis when it first comes, and all that are known are read again every two seconds, so that a
revoked one ends in every web process within five. While Redis is away the known ones go on.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

import redis
import redis.asyncio

from jobs import connections, keys, log
from jobs.access import api_keys
from jobs.access.api_keys import ID_LENGTH, PREFIX, Key
from jobs.access.scopes import ALL, Scope, granted
from jobs.settings import Settings
from web.patience import patience

REFRESH_S = 2.0
"""With the patience for an answer less than the five seconds after which a revoked key is refused."""
IDLE_PASSES = 60
NOTED_EVERY_S = 60.0
logger = log.get("access")


@dataclass(frozen=True, slots=True)
class Grant:
    """Who calls, and what for."""

    client: str
    scopes: frozenset[Scope]


@dataclass(slots=True)
class Known:
    """A key that Redis was asked about; `grant` is None when there is none. `proof` is the SHA-256 of the key that has opened it,
    which is told sooner than the HMAC."""

    grant: Grant | None = None
    digest: bytes = b""
    secret: bytes = b""
    proof: bytes = b""
    used: bool = False
    idle_passes: int = 0
    noted_at: float = 0.0


NOBODY = Known()


class Keyring:
    """Tells whose a key is."""

    def __init__(self, client: redis.asyncio.Redis, settings: Settings) -> None:
        self._client = client
        self._pepper = settings.key_pepper
        self._fixed = [(bytes.fromhex(key.digest), Grant(key.client, ALL)) for key in settings.api_keys]
        self._known: dict[str, Known] = {}

    async def of_key(self, key: bytes) -> Grant | None:
        """Whose API key it is. Raises RedisError while that cannot be told."""
        if self._pepper and key.startswith(PREFIX.encode()):
            await self._of_id(_id_of(key))
        return self.known(key)

    def known(self, key: bytes) -> Grant | None:
        """Whose API key it is, as far as that can be told without Redis; compared in constant time."""
        proof = hashlib.sha256(key).digest()
        if self._pepper and key.startswith(PREFIX.encode()):
            known = self._known.get(_id_of(key).decode("latin-1"), NOBODY)
            if known.grant is not None and (hmac.compare_digest(proof, known.proof) or self._opens(known, key)):
                known.proof, known.used = proof, True
                return known.grant
        found = None
        for fixed, grant in self._fixed:
            if hmac.compare_digest(fixed, proof):
                found = grant
        return found

    async def of_device(self, key_id: bytes) -> tuple[Grant, bytes] | None:
        """Whose device's key it is, and its secret. Raises RedisError while that cannot be told."""
        known = await self._of_id(key_id)
        if known.grant is None or not known.secret:
            return None
        known.used = True
        return known.grant, known.secret

    async def take_once(self, key_id: str, message_id: str, ttl_s: int) -> bool:
        """Whether this signed request comes for the first time. Raises RedisError."""
        name, ours = keys.signed(key_id, message_id), secrets.token_bytes(8)
        async with patience():
            # When the answer is lost the command is sent again, and finds what it wrote itself.
            return bool(await self._client.set(name, ours, nx=True, ex=ttl_s)) or await self._client.get(name) == ours

    async def run(self) -> None:
        """Reads the known keys again, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._refresh()
            except Exception as error:
                if connections.is_away(error):
                    logger.debug("keys not read again, Redis is away")
                    continue
                logger.exception("keys not read again; each is asked for anew")
                self._known.clear()

    def _opens(self, known: Known, key: bytes) -> bool:
        return hmac.compare_digest(known.digest, api_keys.digest(self._pepper, key))

    async def _of_id(self, raw: bytes) -> Known:
        key_id = raw.decode("latin-1")
        known = self._known.get(key_id)
        if known is None:
            if not self._pepper or not api_keys.is_id(self._pepper, key_id):
                return Known()
            [key] = await self._ask([key_id])
            known = self._known.setdefault(key_id, self._make(key_id, key))
        return known

    async def _ask(self, ids: list[str]) -> list[Key | None]:
        async with patience():
            return await api_keys.look_up(self._client, ids)

    def _make(self, key_id: str, key: Key | None) -> Known:
        if key is None or not key.is_active(time.time()):
            return Known()
        secret = b""
        if key.kind == "device":
            shown = api_keys.device_secret(self._pepper, key_id)
            secret = base64.b64decode(shown.removeprefix(api_keys.DEVICE_PREFIX))
        return Known(Grant(key.client, granted(key.scopes)), bytes.fromhex(key.digest), secret)

    async def _refresh(self) -> None:
        ids = list(self._known)
        found = dict(zip(ids, await self._ask(ids), strict=True)) if ids else {}
        now, to_note = time.time(), {}
        for key_id, key in found.items():
            known = self._known[key_id]
            known.idle_passes = 0 if known.used else known.idle_passes + 1
            if known.used and now - known.noted_at >= NOTED_EVERY_S:
                known.noted_at, to_note[key_id] = now, repr(now)
            known.used = False
            if key is None or not key.is_active(now) or known.idle_passes > IDLE_PASSES:
                del self._known[key_id]
        if to_note:  # after the keys: a full Redis must not keep a revoked one alive
            await self._client.hset(keys.API_KEYS_USED, mapping=to_note)


def _id_of(key: bytes) -> bytes:
    return key[len(PREFIX) : len(PREFIX) + ID_LENGTH]
