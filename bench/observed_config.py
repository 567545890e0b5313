"""What `rq worker` reads for the benches that kill workers (RQ_CONFIG=observed_config): the product's and their jobs."""

import observed  # noqa: F401  importing it registers its tasks

from jobs.rq_config import REDIS_URL

__all__ = ["REDIS_URL"]
