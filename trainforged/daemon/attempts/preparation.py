"""From a granted lease to a command that can be started: the project laid out, the environment
built, the checkpoint chosen, the variables put together.

Everything here is safe to do twice: a daemon that takes over does it again for the same attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from trainforge.api import FileEntry, ShellState
from trainforged.core import messages as m
from trainforged.daemon.attempts.resuming import passed_over, resume_point
from trainforged.daemon.disks.bounded import bounded
from trainforged.execution import durable
from trainforged.execution.environments.isolated import Environments
from trainforged.execution.errors import DiskRefused, EnvironmentFailed, FilesError, NoSpace
from trainforged.execution.files.store import Files
from trainforged.execution.launch import CannotStart, Launch
from trainforged.execution.starting.host import Setting, launch
from trainforged.execution.starting.ports import free_port
from trainforged.storage.jobs.store import JobStore, Submission

LONGEST_ANSWER = 10.0  # seconds that the disk of a job has to answer


class Preparation:
    """`prepare` is the supervisor's; what it chose to resume from is in `resumed_from` until taken."""

    def __init__(
        self,
        *,
        store: JobStore,
        files: Files,
        environments: Environments,
        library: Path,
        jobs_dir: Path,
        simulated: bool,
        output_limit: Callable[[], int],
        processes: Callable[[], int],
        tell: Callable[[m.Event], None],
    ) -> None:
        self._tell = tell
        self._store = store
        self._files = files
        self._environments = environments
        self._library = library
        self._jobs_dir = jobs_dir
        self._simulated = simulated
        self._output_limit = output_limit
        self._processes = processes
        self._resumed: dict[tuple[int, int], str] = {}

    def take_resumed_from(self, job: int, attempt: int) -> str | None:
        """The checkpoint that the attempt was prepared with; asked once."""
        return self._resumed.pop((job, attempt), None)

    async def prepare(self, order: m.StartAttempt, folder: Path) -> Launch:
        """Raises `CannotStart`."""
        submission = await asyncio.to_thread(self._store.submission, order.job)
        if submission is None:
            raise CannotStart(f"nothing is stored of job {order.job}", hopeless=True)
        try:
            shell = await asyncio.to_thread(self._shell, submission)
            await _check_workdir(submission)
            cwd = await asyncio.to_thread(self._lay_out, order.job, submission, folder)
            python = await self._python(submission, shell, cwd, folder)
            resume = await asyncio.to_thread(resume_point, self._jobs_dir, order.job, submission)
        except (NoSpace, DiskRefused) as error:
            raise CannotStart(str(error)) from error
        except (FilesError, EnvironmentFailed) as error:
            raise CannotStart(str(error), hopeless=True) from error
        except OSError as error:
            raise CannotStart(f"{error.filename or folder}: {error.strerror}") from error
        for words in await asyncio.to_thread(passed_over, self._jobs_dir, order.job, resume):
            self._tell(m.Noted(time=time.time(), job=order.job, type="checkpoint_skipped", message=words))
        if resume is not None:
            self._resumed[order.job, order.attempt] = resume
        home = self._jobs_dir / str(order.job)
        return launch(
            Setting(
                order=order,
                spec=submission.spec,
                shell=shell,
                python=python,
                cwd=str(cwd),
                job_dir=str(home),
                attempt_dir=str(folder),
                library=str(self._library),
                checkpoint_dir=str(home / "checkpoints"),
                run_id=hashlib.sha256(f"{home}\0{submission.request_id}".encode()).hexdigest()[:12],
                port=free_port(),
                cores=len(os.sched_getaffinity(0)),
                simulated=self._simulated,
                submit_dir=submission.submit_dir,
                resume_from=resume,
                env_file=str(self._files.path(submission.shell)) if submission.shell else None,
                output_limit=self._output_limit(),
                processes=self._processes(),
            )
        )

    def _shell(self, submission: Submission) -> ShellState:
        if submission.shell is None:
            return ShellState()
        with _of("the submitting shell's environment"):
            return msgspec.json.decode(self._files.read(submission.shell), type=ShellState)

    # ---- files

    def _lay_out(self, job: int, submission: Submission, folder: Path) -> Path:
        """The job's and the attempt's folders; returns where the job runs."""
        home = self._jobs_dir / str(job)
        (home / "checkpoints").mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        spec = msgspec.json.format(msgspec.json.encode(submission.spec), indent=2)
        durable.replace(f"{home}/spec.json", spec)  # for people; the truth is in the database
        if submission.manifest is None and submission.workdir is not None:
            return Path(submission.workdir)
        return self._copy_project(home, submission)

    def _copy_project(self, home: Path, submission: Submission) -> Path:
        assert submission.manifest is not None
        with _of("the list of the project's files"):
            entries = msgspec.json.decode(self._files.read(submission.manifest), type=tuple[FileEntry, ...])
        root = Path(submission.root) if submission.root is not None else None
        project = self._files.materialise(entries, submission.spec.project.link, root, home / "project")
        _link_checkpoints(project, submission.spec.checkpoints.dir, home / "checkpoints")
        return project

    # ---- the interpreter

    async def _python(self, submission: Submission, shell: ShellState, cwd: Path, folder: Path) -> str:
        """The interpreter that the job runs with."""
        wanted, requirements = submission.spec.environment.python, submission.spec.training.requirements
        if wanted not in ("current", "isolated"):
            return wanted
        current = shell.python or shutil.which("python3", path=shell.env.get("PATH"))
        if wanted == "current" or requirements is None:
            if current is None:
                raise CannotStart("no python was found in the submitting shell", hopeless=True)
            return current
        said = (folder / "output.log").open("a", encoding="utf-8")
        with said:

            def say(line: str) -> None:
                said.write(f"[trainforge] {line}\n")
                said.flush()

            base = Path(current or "python3")
            built = await self._environments.ensure(base, cwd / requirements, say, shell.env)
        return str(built)


@contextlib.contextmanager
def _of(what: str) -> Iterator[None]:
    """Say whose content it is that is lost: a hash tells a person nothing."""
    try:
        yield
    except FilesError as error:
        raise type(error)(f"{what}: {error}") from error


async def _check_workdir(submission: Submission) -> None:
    """The folder of a job that runs in place may lie on a disk that does not answer."""
    if submission.manifest is not None:
        return
    try:
        there = submission.workdir is not None and await bounded(
            Path(submission.workdir).is_dir, LONGEST_ANSWER
        )
    except TimeoutError:
        raise CannotStart(f"{submission.workdir}: its disk does not answer") from None
    if not there:
        raise CannotStart(f"{submission.workdir}: the folder it runs in is gone", hopeless=True)


def _link_checkpoints(project: Path, name: str, checkpoints: Path) -> None:
    """The project's checkpoint folder is the job's; what the project brought stays as it was."""
    link = project / name
    if link.is_symlink() or link.exists():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(checkpoints)
