"""The content store: each content once, under its SHA-256, in `<2 hex>/<sha256>`.

A content under its name is whole and on the disk: it gets the name last. Contents put with
`durable=False` wait in `incoming/` until `secure` is called on them, which is cheaper for many at
once. They are lost in a crash and cannot be read before that, so `secure` comes before the commit
that relies on them.

What is asked for is marked as used, and `collect` leaves alone what was used within the hour: a
submission finds what it was told is there.

One object for a folder, made by the holder of the state folder's lock. It may be used from several
threads. Methods that are not `async` block.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from trainforge.api import FileEntry
from trainforged.execution.durable import sync_folder
from trainforged.execution.errors import BadManifest
from trainforged.execution.files.copying import Copier
from trainforged.execution.files.incoming import Incoming, told_plainly
from trainforged.execution.files.manifest import is_hash
from trainforged.execution.files.project import lay_out
from trainforged.execution.syncing import sync_files
from trainforged.execution.threads import in_thread

_YOUNG = 3600.0  # seconds since its last use for which a content is kept though nothing names it
_FRESH = 60.0  # seconds for which a mark of use is not renewed


class Files:
    """See the module. `root` is made if it is not there; what a crash left half-done is removed."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._incoming = f"{root}/incoming"
        self._pending: set[str] = set()  # whole, but not on the disk for certain
        self._lock = threading.Lock()  # over `_pending`, and over use and removal of one content
        self._settling = threading.Lock()
        self._copier = Copier(self._place)
        shutil.rmtree(self._incoming, ignore_errors=True)
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        os.mkdir(self._incoming, mode=0o700)

    def missing(self, hashes: Iterable[str]) -> tuple[str, ...]:
        """Those that the store lacks, each once. Takes a few µs for each. Raises BadManifest."""
        wanted = dict.fromkeys(hashes)
        for sha256 in wanted:
            if not is_hash(sha256):
                raise BadManifest(f"{sha256[:80]!r} is not 64 lower-case hex digits")
        with self._lock, told_plainly():
            return tuple(sha256 for sha256 in wanted if not self._use(sha256))

    async def secure(self, hashes: Iterable[str]) -> tuple[str, ...]:
        """Those that the store lacks. All others are on the disk when this returns. Raises NoSpace."""
        wanted = tuple(hashes)
        return await in_thread(lambda: self._secure(wanted))

    async def put(
        self, sha256: str, chunks: AsyncIterator[bytes], limit: int, *, durable: bool = True
    ) -> None:
        """Store a content of at most `limit` bytes. If the store has it, `chunks` is not read.

        Raises WrongContent, TooLarge, NoSpace, BadManifest; then, and when cancelled, nothing is kept.
        """
        if self.missing((sha256,)):
            content = Incoming(self._incoming, sha256, limit)
            try:
                async for chunk in chunks:
                    if content.add(chunk):
                        await in_thread(content.flush)
                await in_thread(lambda: self._keep(content, sha256, durable))
            finally:
                await in_thread(content.discard)  # to remove a large file takes the system a while
        elif durable:
            await self.secure((sha256,))

    def put_bytes(self, data: bytes) -> str:
        """Store a content, on the disk, and return its hash. Raises NoSpace."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self._secure((sha256,)):
            content = Incoming(self._incoming, sha256, len(data))
            try:
                content.add(data)
                self._keep(content, sha256, durable=True)
            finally:
                content.discard()
        return sha256

    def read(self, sha256: str) -> bytes:
        """The whole content. Raises MissingContent, Damaged."""
        return self._copier.read(sha256)

    def path(self, sha256: str) -> Path:
        """Where it lies, to be read only."""
        return Path(self._place(sha256))

    def materialise(
        self, entries: Sequence[FileEntry], link: Sequence[str], root: Path | None, target: Path
    ) -> Path:
        """Lay a frozen project out as the folder `target`, writable and of its own, and return it.

        What matches the patterns `link` below `root`, the folder the project was frozen from, becomes
        a symbolic link to the original. A `target` that is there already is left as it is. The copy
        is on the disk when it gets its name. Raises BadManifest, MissingContent, Damaged, NoSpace.
        """
        with told_plainly():
            return lay_out(self._copier, entries, link, root, target)

    def collect(self, in_use: Collection[str]) -> int:
        """Remove every content that is not in use and was not used within the hour; returns the bytes
        freed. `in_use` has the hashes of manifests and shells too."""
        freed = 0
        for path in self._contents():
            if os.path.basename(path) not in in_use:
                with self._lock:
                    freed += _remove_if_old(path)
        with self._settling, self._lock:  # given up before anything named them
            for sha256 in list(self._pending):
                freed += _remove_if_old(f"{self._incoming}/{sha256}")
                if not os.path.exists(f"{self._incoming}/{sha256}"):
                    self._pending.discard(sha256)
        return freed

    def _place(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _contents(self) -> Iterator[str]:
        for shard in os.listdir(self._root):
            if shard != "incoming":
                with os.scandir(f"{self._root}/{shard}") as entries:
                    yield from [entry.path for entry in entries]

    def _use(self, sha256: str) -> bool:
        """Mark it as used; False if it is not there."""
        path = f"{self._incoming}/{sha256}" if sha256 in self._pending else self._place(sha256)
        try:
            status = os.stat(path)
            if time.time() - _last_use(status) > _FRESH:
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except FileNotFoundError:
            return False
        return True

    def _keep(self, content: Incoming, sha256: str, durable: bool) -> None:
        """Give a content that came in its name, or a place among those that wait for `secure`."""
        content.complete(durable=durable)
        if durable:
            with self._settling, told_plainly():  # who sees the name there waits for it to be durable
                self._make_shards((sha256,))
                content.name(self._place(sha256))
                sync_folder(f"{self._root}/{sha256[:2]}")
        else:
            with self._lock:
                if not self._use(sha256):  # else it came twice at once, and the other may be on its way
                    content.name(f"{self._incoming}/{sha256}")
                    self._pending.add(sha256)

    def _secure(self, hashes: tuple[str, ...]) -> tuple[str, ...]:
        with self._settling, told_plainly():
            waiting = self._pending.intersection(hashes)
            if waiting:
                self._settle(waiting)
        return self.missing(hashes)

    def _settle(self, waiting: Collection[str]) -> None:
        """Bytes, then names, then the folders of the names."""
        sync_files([f"{self._incoming}/{sha256}" for sha256 in waiting], self._root)
        self._make_shards(waiting)
        for sha256 in waiting:
            with self._lock:
                os.rename(f"{self._incoming}/{sha256}", self._place(sha256))
                self._pending.discard(sha256)
        sync_files({f"{self._root}/{sha256[:2]}" for sha256 in waiting}, self._root)

    def _make_shards(self, hashes: Iterable[str]) -> None:
        """The folders of these contents; called by one thread at a time."""
        new = {sha256[:2] for sha256 in hashes}.difference(os.listdir(self._root))
        for name in new:
            os.mkdir(f"{self._root}/{name}", mode=0o700)
        if new:
            sync_folder(self._root)


def _last_use(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)


def _remove_if_old(path: str) -> int:
    """Bytes freed."""
    try:
        status = os.stat(path)
        if time.time() - _last_use(status) < _YOUNG:
            return 0
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return status.st_size
