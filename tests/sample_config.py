"""What `rq worker` reads in tests (RQ_CONFIG=sample_config): the product's configuration and the sample tasks."""

import sample_tasks  # noqa: F401  importing it registers its tasks

from jobs.rq_config import REDIS_URL

__all__ = ["REDIS_URL"]
