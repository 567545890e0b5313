"""Says whether the Redis at REDIS_URL can be used; `up` asks before it starts anything.

A process of its own, since redis-py takes longer to import than the rest of the supervisor together.
"""

from __future__ import annotations

import sys

import redis

from jobs.connections import connect, redis_url, shown_url
from jobs.engine import OLDEST
from jobs.settings import current


def main() -> int:
    """Prints where Redis is and its version, or on stderr why it cannot be used (2)."""
    url = redis_url(current())
    try:
        with connect(url, retries=0) as client:
            version = str(client.info("server")["redis_version"])
    except (redis.exceptions.RedisError, OSError) as error:
        print(f"{shown_url(url)} cannot be reached: {error}", file=sys.stderr)
        return 2
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        print(f"{shown_url(url)} is version {version}; 6.2 or newer is needed", file=sys.stderr)
        return 2
    print(f"{shown_url(url)} (version {version})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
