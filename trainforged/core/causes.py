"""What an attempt failed of, from evidence alone: what its ranks said, what the kernel and the GPUs did.

The first failing rank is the one to look at; but ranks that lose a peer fail too, sometimes before the
peer is seen to have, so a rank whose error is of another kind comes before them. Our own orders are not
looked at here: `lifecycle.judge` comes to them first.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

import msgspec

from trainforge.states import EndReason
from trainforged.core.messages import AttemptEnd, RankEnd

ENDED_BY_US = (
    signal.SIGTERM,
    signal.SIGKILL,
)  # survivors: the launcher asks them to leave, the shim kills them
LONGEST_LINE = 200  # characters of evidence in a list


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    reason: EndReason
    evidence: str  # one line
    faulty: dict[str, str] = {}  # GPUs (UUID → why) that are not to be trusted


# What the text of an error, or the last output of a rank that left none, tells. torch's words, CUDA's
# (cudaGetErrorString), NCCL's and gloo's, and the C library's (strerror).
_GPU_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|Cuda failure 2 'out of memory'"
)
_GPU_FAULT = re.compile(
    r"uncorrectable ECC error|uncorrectable NVLink error|GPU is lost|fallen off the bus"
    r"|CUDA error: (unknown error|hardware stack error|system not yet initialized)"
    r"|CUDA-capable device\(s\) is/are busy or unavailable|NVML_ERROR_GPU_IS_LOST"
)
_MEMORY = re.compile(r"^MemoryError|Cannot allocate memory|DefaultCPUAllocator: (can't|not enough)")
_DISK = re.compile(r"\[Errno (28|122)\]|No space left on device|Disk quota exceeded|database or disk is full")
_PERHAPS_DISK = re.compile(
    r"PytorchStreamWriter failed|inline_container\.cc.*(unexpected pos|file write failed)"
    r"|\[Errno 5\]|disk I/O error|[Ww]rite error|[Uu]nable to write|\bshort write\b"
)  # where the disk turns out to be full
_PEER = re.compile(
    r"DistBackendError|DistNetworkError|DistStoreError|Watchdog caught collective operation timeout"
    r"|ncclRemoteError|ncclSystemError|Connection (closed|reset) by peer|Connection refused"
    r"|gloo/transport|Timed out waiting \d+ms|Broken pipe"
)


def cause(end: AttemptEnd, gpus: Sequence[str] = ()) -> Cause:
    """Of an attempt that did not end well. `gpus`: what it held, in the order of the ranks."""
    if end.start_error is not None:
        reason = EndReason.DISK_FULL if _DISK.search(end.start_error) else EndReason.START_FAILED
        return Cause(reason=reason, evidence=in_a_line(end.start_error))
    if end.lost or end.rebooted:
        why = "the machine was restarted" if end.rebooted else describe(end)
        return Cause(reason=EndReason.LOST, evidence=why)
    rank = first_failure(end)
    where = f"rank {rank.rank} " if rank is not None else ""
    gpu = _gpu_of(rank, gpus)
    said = _said(rank, end)
    if _GPU_MEMORY.search(said):
        if gpu in end.foreign:
            taken = f"{where}ran out of GPU memory: {end.foreign[gpu]}"
            return Cause(reason=EndReason.GPU_MEMORY_TAKEN, evidence=taken)
        return Cause(reason=EndReason.GPU_OUT_OF_MEMORY, evidence=in_a_line(_line(_GPU_MEMORY, said, where)))
    if end.faults:
        why = "; ".join(end.faults.values())
        return Cause(reason=EndReason.GPU_FAULT, evidence=in_a_line(why), faulty=end.faults)
    if _GPU_FAULT.search(said):
        why = in_a_line(_line(_GPU_FAULT, said, where))
        return Cause(reason=EndReason.GPU_FAULT, evidence=why, faulty={gpu: why} if gpu else {})
    return Cause(reason=_elsewhere(rank, end, said), evidence=_evidence(rank, end, said, where))


def _elsewhere(rank: RankEnd | None, end: AttemptEnd, said: str) -> EndReason:
    """A reason that has nothing to do with GPUs."""
    killed = rank.signal if rank is not None else end.signal
    if _MEMORY.search(said) or _killed_by_kernel(killed, end, said):
        return EndReason.OUT_OF_MEMORY
    if _DISK.search(said) or _left_no_word(killed, end, said) or _could_not_write(killed, end, said):
        return EndReason.DISK_FULL
    if len(end.ranks) > 1 and _PEER.search(said):
        return EndReason.PEER_LOST
    return EndReason.KILLED if killed is not None else EndReason.USER_ERROR


def _evidence(rank: RankEnd | None, end: AttemptEnd, said: str, where: str) -> str:
    killed = rank.signal if rank is not None else end.signal
    if _killed_by_kernel(killed, end, said):
        who = where if killed else f"a child of {where or 'it '}"
        why = end.oom_log or "the machine, or the job's limit, had no memory left"
        return f"{who}was killed by the kernel: {why}"
    if killed == signal.SIGKILL and end.oom_elsewhere:
        others = "a process" if end.oom_elsewhere == 1 else f"{end.oom_elsewhere} processes"
        perhaps = f"the kernel killed {others} of this machine meanwhile for want of memory, perhaps this one"
        return f"{in_a_line(describe(end))}; {perhaps}"
    if _left_no_word(killed, end, said):
        return f"{in_a_line(describe(end))}, and no room is left on the disk for what it had to say"
    if _could_not_write(killed, end, said):
        return f"{in_a_line(describe(end))}; the disk of {end.room.path if end.room else 'its files'} is full"
    if rank is not None and rank.error is None:
        for pattern in (_MEMORY, _DISK, _PEER):
            if pattern.search(said):
                return in_a_line(f"{where}{_status(rank.exit_code, rank.signal)}: {_line(pattern, said)}")
    return in_a_line(describe(end))


def _left_no_word(killed: int | None, end: AttemptEnd, said: str) -> bool:
    """Where the disk is full, what tells so cannot be kept either."""
    return end.full and killed is None and not said.strip()


def _could_not_write(killed: int | None, end: AttemptEnd, said: str) -> bool:
    """In words of its own, or by a file in memory that found no room to be written to."""
    wrote = killed is None and _PERHAPS_DISK.search(said) is not None
    full = end.full or (end.room is not None and end.room.used_up)
    return full and not _DISK.search(said) and (wrote or killed == signal.SIGBUS)


def _killed_by_kernel(killed: int | None, end: AttemptEnd, said: str) -> bool:
    """For want of memory: itself, a data-loader worker of it (torch's words), or what a shell ran."""
    if end.oom_kills == 0 and end.oom_log is None:
        return False
    shell = not end.ranks and end.exit_code == 128 + signal.SIGKILL
    return killed == signal.SIGKILL or shell or "killed by signal: Killed" in said


def first_failure(end: AttemptEnd) -> RankEnd | None:
    """The rank to look at; None where none is known to have failed."""
    failed = [rank for rank in end.ranks if rank.signal or rank.exit_code or rank.error]
    by_itself = [rank for rank in failed[1:] if rank.signal not in ENDED_BY_US]
    of_its_own = (rank for rank in [*failed[:1], *by_itself] if not _PEER.search(_said(rank, end)))
    return next(of_its_own, failed[0] if failed else None)


def _said(rank: RankEnd | None, end: AttemptEnd) -> str:
    """The error of the rank; where it left none, the last it wrote."""
    if rank is None:
        return end.tails.get(0, "")
    return rank.error or end.tails.get(rank.rank, "")


def _gpu_of(rank: RankEnd | None, gpus: Sequence[str]) -> str:
    """Empty where the rank has none."""
    number = rank.rank if rank is not None else 0
    return gpus[number] if number < len(gpus) else ""


def _line(pattern: re.Pattern[str], said: str, where: str = "") -> str:
    """The line of `said` that speaks of it."""
    return where + next((line for line in said.splitlines() if pattern.search(line)), said)


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """An exception, as Python names it in its last line."""

    type: str
    text: str  # with the type


_RAISED = re.compile(r"(?:^|\()((?:[\w.]+\.)?(\w+(?:Error|Exception)): .*?)\)?$")


def raised(end: AttemptEnd) -> Raised | None:
    """What the output of a command, or of a launcher that came to no ranks, ends with."""
    if first_failure(end) is not None or not end.exit_code:
        return None
    lines = end.tails.get(0, "").strip().splitlines()
    found = _RAISED.search(lines[-1]) if lines else None
    return Raised(type=found[2], text=found[1]) if found else None


# ---------------------------------------------------------------- in words


def describe(end: AttemptEnd) -> str:
    """The evidence, whole: the message of an exception, or of a start that failed, may have many lines."""
    if end.start_error is not None:
        return end.start_error
    if end.lost:
        return "the attempt and its shim are gone without a status"
    rank = first_failure(end)
    if rank is not None:
        return f"rank {rank.rank} {rank.error or _status(rank.exit_code, rank.signal)}"
    error, status = raised(end), _status(end.exit_code, end.signal)
    return f"{status}: {error.text}" if error is not None else status


def account(end: AttemptEnd, gpus: Sequence[str], reason: EndReason | None) -> str:
    """As `describe`, with what is known beyond the rank's own words: the kernel's and the GPUs' part in it.
    `reason` is what the attempt was judged to have ended of."""
    said, why = describe(end), cause(end, gpus)
    evidence = why.evidence.removesuffix(" …")
    if why.reason is not reason or evidence in said:
        return said
    return why.evidence if evidence.startswith(said) else f"{why.evidence} ({said})"


def tail(end: AttemptEnd) -> str | None:
    """The last that the failing rank wrote, or else another that failed: ranks that stop for the same cause
    leave it to one of them to say it. None where it left an exception, or none said anything."""
    rank = first_failure(end)
    if rank is not None and rank.error is not None:
        return None
    own = end.tails.get(rank.rank if rank is not None else 0)
    return own or next((said for _, said in sorted(end.tails.items()) if said), None)


def in_a_line(text: str) -> str:
    """Its first line that says something, and … where there is more."""
    first, _, rest = text.strip().partition("\n")
    first = first.rstrip()
    more = bool(rest.strip()) or len(first) > LONGEST_LINE
    return first[:LONGEST_LINE] + (" …" if more else "")


def _status(exit_code: int | None, number: int | None) -> str:
    if number is None:
        return "ended with an unknown status" if exit_code is None else f"ended with {exit_code}"
    return f"was killed by signal {number}{_named(number)}"


def _named(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""  # a real-time signal
