"""How many commands Redis has run, by name: what a promise about round trips is measured with."""

import redis


def commands_of(client: redis.Redis) -> dict[str, int]:
    """Calls since the server's start or CONFIG RESETSTAT; those inside scripts count as well."""
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in client.info("commandstats").items()}
