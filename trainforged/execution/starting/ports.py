"""A TCP port for the ranks of an attempt to meet at."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 20_000, 32_767  # below what the kernel gives to outgoing connections
TRIES = 64


def free_port() -> int:
    """Free on the loopback at this moment; drawn, so that two attempts that start together differ."""
    for _ in range(TRIES):
        port = random.randint(LOWEST, HIGHEST)
        if _is_free(port):
            return port
    with socket.socket() as probe:  # a crowded machine: let the kernel choose
        probe.bind(("127.0.0.1", 0))
        chosen: int = probe.getsockname()[1]
        return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
