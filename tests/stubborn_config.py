"""What `rq worker` reads (RQ_CONFIG=stubborn_config): the sample tasks, and some that no interruption ends."""

import stubborn_tasks  # noqa: F401  importing it registers its tasks
from sample_config import REDIS_URL

__all__ = ["REDIS_URL"]
