"""trainforge.db: jobs, what was submitted, attempts, leases, devices and the history of events."""
