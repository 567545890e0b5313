"""`python -m jobs keys ...`: keys of the API's clients, made, listed and revoked while the web runs."""

import argparse
import secrets
import sys
import time
from datetime import UTC, datetime

import msgspec
import redis

from jobs.access import api_keys, scopes
from jobs.access.scopes import Scope
from jobs.commands import redis_command
from jobs.commands.terminal import operator, printable, table
from jobs.errors import InvalidField
from jobs.setting_values import hash_api_key
from jobs.settings import current

DAY_S = 86_400
HEAD = ("ID", "CLIENT", "KIND", "SCOPES", "MADE", "EXPIRES", "LAST USED")


def main(argv: list[str]) -> int:
    """One action; 2 when it cannot be done, with the reason on stderr."""
    options = _parser().parse_args(argv)
    if options.action == "env":
        return _print_entry(options.client)
    return redis_command.run(lambda client: _answer(client, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs keys", description="Keys of the API's clients.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, default, text in (
        ("new", None, "make an API key"),
        ("device", Scope.ENTRIES.value, "make the secret with which a device signs its requests"),
    ):
        made = actions.add_parser(name, help=text)
        made.add_argument("client", help="whose key it is: letters, digits, '_', '-', '.'")
        made.add_argument("--scopes", default=default, required=default is None, help=f"of {', '.join(Scope)}; with commas")
        made.add_argument("--days", type=float, help="how long it is good for; without, until it is revoked")
    listed = actions.add_parser("list", help="all keys; none can be read again")
    listed.add_argument("--json", action="store_true", help="print JSON")
    actions.add_parser("revoke", help="end a key; within five seconds it opens nothing").add_argument("id")
    actions.add_parser("env", help="make an entry of TURNSTILE_API_KEYS, with all scopes").add_argument("client")
    return parser


def _answer(client: redis.Redis, options: argparse.Namespace) -> str:
    now = time.time()
    if options.action == "list":
        keys = api_keys.listed(client)
        return msgspec.json.encode(keys).decode() if options.json else table([HEAD, *(_row(key) for key in keys)])
    if options.action == "revoke":
        api_keys.revoke(client, options.id, now=now, by=operator())
        return f"{options.id} is revoked"
    pepper = current().key_pepper
    if not pepper:
        reason = "is needed by this command and by the web: set the same random text on all hosts, for example"
        raise InvalidField("TURNSTILE_KEY_PEPPER", f"{reason}\n  {secrets.token_urlsafe(api_keys.SECRET_BYTES)}")
    if options.days is not None and not options.days > 0:
        raise InvalidField("days", "must be more than 0")
    key_id, given = api_keys.create(
        client,
        pepper,
        options.client,
        kind="device" if options.action == "device" else "key",
        scopes=scopes.parse(options.scopes),
        now=now,
        lifetime_s=None if options.days is None else options.days * DAY_S,
        by=operator(),
    )
    return f"id      {key_id}\nsecret  {given}\nThe secret is shown only now."


def _row(key: api_keys.Shown) -> list[str]:
    instants = (key.created_at, key.expires_at, key.used_at)
    return [key.id, printable(key.client), key.kind, ",".join(key.scopes), *(_day(at) for at in instants)]


def _day(instant: float | None) -> str:
    return "-" if instant is None else f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%MZ}"


def _print_entry(client: str) -> int:
    if not api_keys.CLIENT.fullmatch(client):
        sys.stderr.write("client: letters, digits, '_', '-' and '.' are needed, at most 64\n")
        return 2
    key = secrets.token_urlsafe(api_keys.SECRET_BYTES)
    sys.stdout.write(
        f"The key, shown only now:\n  {key}\n"
        f"Add to TURNSTILE_API_KEYS (entries are separated by commas):\n  {client}:sha256${hash_api_key(key)}\n"
    )
    return 0
