"""What `rq worker` reads for the scores (RQ_CONFIG=score_config): the product's configuration and their jobs."""

import score_tasks  # noqa: F401  importing it registers its tasks

from jobs.rq_config import REDIS_URL

__all__ = ["REDIS_URL"]
