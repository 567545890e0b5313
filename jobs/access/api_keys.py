"""Keys of clients, kept in Redis so that they can be made and revoked while the web runs.

An API key is `ts_<id>_<secret>`. Redis holds its HMAC under a pepper that is only in the environment, so that a copy of Redis
opens nothing. The secret of a device must be known to check a signature: it is derived from the pepper and the id, and
is nowhere stored. An id carries a check of its own under the pepper: ids that somebody made up cost no round trip.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Literal

import msgspec
import redis
import redis.asyncio

from jobs import keys, log
from jobs.access.scopes import Scope
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue.audit import say
from jobs.queue.script import beside

Kind = Literal["key", "device"]
PREFIX = "ts_"
DEVICE_PREFIX = "whsec_"
SECRET_BYTES = 32
HALF_ID = 10
ID_LENGTH = 2 * HALF_ID
MAX_ACTIVE = 2
"""Keys of one kind that a client may have, so that it can change to the new one before the old one is revoked."""
CLIENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")

logger = log.get("access")
_create = beside(__file__, "create_key")
_revoke = beside(__file__, "revoke_key")


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """What Redis holds of a key. `digest` is the HMAC (hex) of an API key, nothing for a device."""

    client: str
    kind: Kind
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None = None
    digest: str = ""

    def is_active(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or self.expires_at > now


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as it is listed. `used_at` is exact to a minute."""

    id: str
    client: str
    kind: Kind
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None = None
    used_at: float | None = None


def digest(pepper: str, key: bytes) -> bytes:
    """What is kept of an API key."""
    return hmac.digest(pepper.encode(), b"key:" + key, "sha256")


def device_secret(pepper: str, key_id: str) -> str:
    """`whsec_<base64>`, the secret of a device's key."""
    return DEVICE_PREFIX + base64.b64encode(hmac.digest(pepper.encode(), f"device:{key_id}".encode(), "sha256")).decode()


def is_id(pepper: str, key_id: str) -> bool:
    """Whether an id was made under this pepper."""
    half = key_id[:HALF_ID]
    return hmac.compare_digest(key_id.encode(), (half + _check(pepper, half)).encode())


def _check(pepper: str, half: str) -> str:
    return hmac.new(pepper.encode(), f"id:{half}".encode(), hashlib.sha256).hexdigest()[:HALF_ID]


def create(
    client: redis.Redis,
    pepper: str,
    name: str,
    *,
    kind: Kind,
    scopes: tuple[Scope, ...],
    now: float,
    lifetime_s: float | None,
    by: str,
) -> tuple[str, str]:
    """Makes a key of the client `name`; returns its id, and what the client is given, which cannot be read again.

    Raises InvalidField, and Conflict when the client has two keys of that kind.
    """
    if not CLIENT.fullmatch(name):
        raise InvalidField("client", "letters, digits, '_', '-' and '.' are needed, at most 64")
    half = secrets.token_hex(HALF_ID // 2)
    key_id = half + _check(pepper, half)
    if kind == "key":
        given = f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        kept = digest(pepper, given.encode()).hex()
    else:
        given, kept = device_secret(pepper, key_id), ""
    record = Key(name, kind, scopes, now, None if lifetime_s is None else now + lifetime_s, kept)
    args = (key_id, msgspec.json.encode(record), now, MAX_ACTIVE, by)
    if not _create(client, (keys.API_KEYS, keys.API_KEYS_USED, keys.AUDIT), args):
        raise Conflict(f"{name} has {MAX_ACTIVE} keys of this kind already: revoke one first")
    say(f"make {kind}", who=by, target=f"{name} {key_id}")
    return key_id, given


def revoke(client: redis.Redis, key_id: str, *, now: float, by: str) -> None:
    """Deletes a key; every web process knows within five seconds. Raises NotFound."""
    if not _revoke(client, (keys.API_KEYS, keys.API_KEYS_USED, keys.AUDIT), (key_id, now, by)):
        raise NotFound("key", key_id)
    say("revoke key", who=by, target=key_id)


def listed(client: redis.Redis) -> list[Shown]:
    """All keys by client and age, expired ones too."""
    used = client.hgetall(keys.API_KEYS_USED)
    found = []
    for key_id, text in client.hgetall(keys.API_KEYS).items():
        key, at = _read(key_id.decode(), text), used.get(key_id)
        if key is None:
            continue
        used_at = float(at) if at else None
        found.append(Shown(key_id.decode(), key.client, key.kind, key.scopes, key.created_at, key.expires_at, used_at))
    return sorted(found, key=lambda key: (key.client, key.created_at))


async def look_up(client: redis.asyncio.Redis, ids: Sequence[str]) -> list[Key | None]:
    """The keys with these ids, in one round trip; None for one that was revoked or whose record is broken."""
    found = await client.hmget(keys.API_KEYS, ids)
    return [None if text is None else _read(key_id, text) for key_id, text in zip(ids, found, strict=True)]


def _read(key_id: str, text: bytes) -> Key | None:
    try:
        return msgspec.json.decode(text, type=Key)
    except (msgspec.DecodeError, UnicodeDecodeError):
        logger.exception("the record of a key cannot be read: revoke it", id=key_id)
        return None
