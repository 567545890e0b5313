"""What `rq worker` reads for the tasks of ours.py (RQ_CONFIG=contenders.ours_config): they, and the product's configuration."""

import contenders.ours  # noqa: F401  importing it registers its tasks

from jobs.rq_config import REDIS_URL

__all__ = ["REDIS_URL"]
