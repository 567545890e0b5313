"""The job queue. Knows nothing of malls."""
