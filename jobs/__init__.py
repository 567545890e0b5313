"""Everything that a worker imports. This file stays free of imports: `python3 -m jobs` reads it before anything is installed."""

__version__ = "0.1.0"
