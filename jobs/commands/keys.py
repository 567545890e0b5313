"""`python -m jobs keys new CLIENT`: makes an API key; only its hash belongs into TURNSTILE_API_KEYS."""

import argparse
import re
import secrets
import sys

from jobs.settings import hash_api_key

CLIENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
KEY_BYTES = 32


def main(argv: list[str]) -> int:
    """Prints a new key, once, and the entry for TURNSTILE_API_KEYS."""
    parser = argparse.ArgumentParser(prog="python -m jobs keys", description="Make an API key.")
    parser.add_argument("action", choices=["new"])
    parser.add_argument("client", help="whose key it is: letters, digits, '_', '-', '.'")
    options = parser.parse_args(argv)
    if not CLIENT.fullmatch(options.client):
        parser.error(f"client {options.client!r}: letters, digits, '_', '-' and '.' are needed, at most 64")
    key = secrets.token_urlsafe(KEY_BYTES)
    sys.stdout.write(
        f"The key, shown only now:\n  {key}\n"
        f"Add to TURNSTILE_API_KEYS (entries are separated by commas):\n  {options.client}:sha256${hash_api_key(key)}\n"
    )
    return 0
