"""Around one attempt: what it is started from, and what is added to its end."""
