"""What can go wrong with files and environments of jobs, each as a sentence for its user."""

from __future__ import annotations


class FilesError(Exception):
    """Base of the errors of the content store and of what is laid out from it."""


class NoSpace(FilesError):
    """The disk, or the user's share of it, is full. Nothing half-written is left."""


class DiskRefused(FilesError):
    """The disk takes no writes (it is read-only) or fails. It is not the job's doing, and may pass."""


class WrongContent(FilesError):
    """What was sent is not what its name says. Nothing of it is kept."""


class TooLarge(FilesError):
    """More was sent than is allowed. Nothing of it is kept."""


class MissingContent(FilesError):
    """The store does not hold it."""


class Damaged(FilesError):
    """The store held something else under this name. It was removed, so that it can be sent again."""


class BadManifest(FilesError):
    """A list of files that must not be laid out."""


class EnvironmentFailed(Exception):
    """An isolated environment could not be built; the message ends with the installer's last lines."""
