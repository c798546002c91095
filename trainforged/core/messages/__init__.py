"""The vocabulary of the core: what it remembers, what it is told, what it changes, what it orders.

Everything is frozen and knows how to become JSON. Times are seconds since the epoch and ride on
the events: the core has no clock. An event is a fact in the past tense, an effect an order in the
imperative. Nothing here does anything.
"""

from trainforged.core.messages.base import Message as Message
from trainforged.core.messages.changes import *  # noqa: F403
from trainforged.core.messages.effects import *  # noqa: F403
from trainforged.core.messages.events import *  # noqa: F403
from trainforged.core.messages.remembered import *  # noqa: F403
from trainforged.core.messages.replies import *  # noqa: F403
