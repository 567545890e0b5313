"""What `rq worker` reads in tests of batches (RQ_CONFIG=batch_config): the product's configuration and the sample batches."""

import sample_batches  # noqa: F401  importing it registers its tasks

from jobs.rq_config import REDIS_URL

__all__ = ["REDIS_URL"]
