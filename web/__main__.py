"""`python -m web`: uvicorn with our bounds. PORT, HOST and WEB_CONCURRENCY come from the environment."""

from __future__ import annotations

import sys

import uvicorn

from jobs import connections, log
from jobs.errors import TurnstileError
from jobs.settings import current

GRACE_S = 20
KEEP_ALIVE_S = 15
MAX_HEADER_BYTES = 65_536


def main() -> int:
    """Runs the web until a signal comes; exit code 2 for settings that cannot work."""
    try:
        settings = current()
        url = connections.redis_url(settings)
    except TurnstileError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    log.configure(settings, process="web")
    log.get("web").info(
        "web starts",
        url=f"http://{settings.host}:{settings.port}/",
        redis=connections.shown_url(url),
        api_keys=len(settings.api_keys),
        note="" if settings.api_keys else "no API keys: everybody on this machine may do everything",
    )
    uvicorn.run(
        "web.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.web_concurrency,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        server_header=False,
        date_header=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
