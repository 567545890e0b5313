"""The scheduler process: delayed jobs, periodic jobs, recovery, reconciliation."""
