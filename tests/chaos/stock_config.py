"""What our workers read in a run of stock_harness.py: the product's settings, and its tasks. Run itself, it is our scheduler."""

import stock_ours

from jobs.rq_config import REDIS_URL

__all__ = ["REDIS_URL"]

if __name__ == "__main__":
    stock_ours.schedule()
