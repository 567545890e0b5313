"""The allow-list of this application: importing a module registers its tasks."""

import importlib

from jobs.mall import counting, reports, steps, webhooks
from jobs.settings import Settings

REGISTERED = (counting, steps, reports, webhooks)
SAMPLES = "jobs.queue.samples"


def register(settings: Settings) -> None:
    """Completes the allow-list; the samples are on it only when TURNSTILE_SAMPLES=1."""
    if settings.samples:
        importlib.import_module(SAMPLES)
