"""API keys and devices' secrets in Redis: made, listed and ended, by the command too; what is kept opens nothing."""

import base64
import getpass
import re
import sys
import time
from functools import partial

import msgspec
import pytest
import redis
from asking import Ask
from processes import Processes

from jobs import keys
from jobs.__main__ import COMMANDS
from jobs.access import api_keys
from jobs.access.api_keys import Key, Kind
from jobs.access.scopes import Scope
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue import audit

PEPPER = "a pepper of at least 32 characters"
COMMAND = f"import sys; from {COMMANDS['keys'][0]} import main; sys.exit(main(sys.argv[1:]))"
LIMIT_S = 60.0


def create(
    client: redis.Redis, name: str = "shop", *, kind: Kind = "key", now: float | None = None, lifetime_s: float | None = None
) -> tuple[str, str]:
    now = time.time() if now is None else now
    return api_keys.create(client, PEPPER, name, kind=kind, scopes=(Scope.ORDERS,), now=now, lifetime_s=lifetime_s, by="test")


def everything(client: redis.Redis) -> bytes:
    return repr((client.hgetall(keys.API_KEYS), client.hgetall(keys.API_KEYS_USED), client.xrange(keys.AUDIT))).encode()


def test_redis_holds_no_secret_and_a_key_names_itself_by_its_id(redis_client: redis.Redis, ask: Ask) -> None:
    key_id, given = create(redis_client)
    device_id, secret = create(redis_client, kind="device")
    assert re.fullmatch(rf"ts_{key_id}_[A-Za-z0-9_-]{{43}}", given)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == api_keys.SECRET_BYTES
    kept = everything(redis_client)
    assert given.rpartition("_")[2].encode() not in kept and secret.removeprefix("whsec_").encode() not in kept
    [key, device] = ask(partial(api_keys.look_up, ids=[key_id, device_id]))
    assert key is not None and bytes.fromhex(key.digest) == api_keys.digest(PEPPER, given.encode())
    assert bytes.fromhex(key.digest) != api_keys.digest(PEPPER + "x", given.encode())
    assert device is not None and device.digest == "" and api_keys.device_secret(PEPPER, device_id) == secret
    assert api_keys.device_secret(PEPPER + "x", device_id) != secret


def test_an_id_that_was_not_made_under_the_pepper_is_told_without_redis() -> None:
    assert not any(api_keys.is_id(PEPPER, text) for text in ("", "x", "0" * 20, "\xff" * 20))


def test_a_client_has_two_keys_of_a_kind_at_most_until_one_is_revoked(redis_client: redis.Redis) -> None:
    first, _ = create(redis_client)
    create(redis_client)
    with pytest.raises(Conflict, match="shop has 2 keys"):
        create(redis_client)
    create(redis_client, kind="device")
    create(redis_client, "till")
    api_keys.revoke(redis_client, first, now=time.time(), by="test")
    create(redis_client)
    with pytest.raises(NotFound):
        api_keys.revoke(redis_client, first, now=time.time(), by="test")


def test_an_expired_key_makes_room_and_takes_its_note_of_use_along(redis_client: redis.Redis) -> None:
    now = time.time()
    old = [create(redis_client, now=now - 10, lifetime_s=5)[0] for _ in range(2)]
    redis_client.hset(keys.API_KEYS_USED, mapping={old[0]: "1.0", "nobody": "1.0"})
    assert [shown.id for shown in api_keys.listed(redis_client)] == old
    new, _ = create(redis_client, now=now)
    assert [(shown.id, shown.used_at) for shown in api_keys.listed(redis_client)] == [(new, None)]
    assert redis_client.exists(keys.API_KEYS_USED) == 0


def test_the_script_called_twice_makes_one_key_and_one_entry_in_the_trail(redis_client: redis.Redis) -> None:
    record = msgspec.json.encode(Key("shop", "key", (Scope.ORDERS,), 1.0, None, "00"))
    for _ in range(2):
        args = ("id", record, 1.0, 1, "test")
        assert api_keys._create(redis_client, (keys.API_KEYS, keys.API_KEYS_USED, keys.AUDIT), args) == 1
    for answer in (1, 0):
        args_of_end = ("id", 2.0, "test")
        assert api_keys._revoke(redis_client, (keys.API_KEYS, keys.API_KEYS_USED, keys.AUDIT), args_of_end) == answer
    trail = [(entry.what, entry.target, entry.at) for entry in audit.page(redis_client, cursor=None, limit=9)[0]]
    assert trail == [("revoke key", "id", 2.0), ("make key", "shop id", 1.0)]


def test_a_client_s_name_is_of_few_characters(redis_client: redis.Redis) -> None:
    for name in ("", "a b", "x" * 65, "a\n"):
        with pytest.raises(InvalidField, match="client"):
            create(redis_client, name)


def run(processes: Processes, *words: str, code: int = 0, **environ: str) -> str:
    process = processes.start(sys.executable, "-c", COMMAND, *words, **environ)
    assert process.ended(LIMIT_S) == code, process.output
    return process.output


def test_the_command_makes_lists_and_revokes_keys(redis_client: redis.Redis, processes: Processes) -> None:
    command = partial(run, processes, TURNSTILE_KEY_PEPPER=PEPPER)
    made = command("new", "shop", "--scopes", "orders,ops:read", "--days", "30")
    key_id = re.findall(r"^id +(\w{20})$", made, re.MULTILINE)[0]
    assert f"ts_{key_id}_" in made and "shown only now" in made
    assert "whsec_" in command("device", "gate-3")
    listed = command("list")
    assert "whsec_" not in listed and "ts_" not in listed
    assert [line.split()[1:4] for line in listed.splitlines()[1:]] == [
        ["gate-3", "device", "entries"],
        ["shop", "key", "orders,ops:read"],
    ]
    [_, shop] = msgspec.json.decode(command("list", "--json"))
    assert shop["id"] == key_id and shop["expires_at"] - shop["created_at"] == pytest.approx(30 * 86_400)
    assert "is revoked" in command("revoke", key_id)
    assert "no key with id" in command("revoke", key_id, code=2)
    trail = [(entry.what, entry.who) for entry in audit.page(redis_client, cursor=None, limit=9)[0]]
    assert trail == [(what, f"cli:{getpass.getuser()}") for what in ("revoke key", "make device", "make key")]


def test_without_a_pepper_the_command_says_what_to_set(redis_client: redis.Redis, processes: Processes) -> None:
    assert "TURNSTILE_KEY_PEPPER: is needed" in run(processes, "new", "shop", "--scopes", "orders", code=2)
    assert "known are entries" in run(processes, "new", "s", "--scopes", "all", code=2, TURNSTILE_KEY_PEPPER=PEPPER)
    assert redis_client.exists(keys.API_KEYS) == 0
    assert re.search(r"shop:sha256\$[0-9a-f]{64}\n", run(processes, "env", "shop"))
