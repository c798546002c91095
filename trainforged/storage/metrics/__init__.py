"""metrics.db: the series that jobs reported, and what GPUs and jobs used over time."""
