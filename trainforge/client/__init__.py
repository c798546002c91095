"""Talking to a daemon: HTTP over its Unix socket, synchronous, and the event stream."""
