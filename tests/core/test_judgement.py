"""The end of an attempt is judged from evidence."""

from __future__ import annotations

import pytest

from trainforge.spec import Recovery
from trainforge.states import EndReason, JobState
from trainforged.core.judgement import LONGEST_BACKOFF, backoff, judge, shell_status
from trainforged.core.lifecycle import Trigger
from trainforged.core.messages import AttemptEnd, Job, RankEnd


def a_job(**fields: object) -> Job:
    defaults: dict[str, object] = {
        "id": 1, "name": "job", "user": "alice", "state": JobState.RUNNING,
        "submitted_at": 0.0, "script": True, "attempt": 1, "recovery": Recovery(max_retries=2),
    }  # fmt: skip
    return Job(**(defaults | fields))  # type: ignore[arg-type]


def rank(number: int, **fields: object) -> RankEnd:
    return RankEnd(rank=number, **fields)  # type: ignore[arg-type]


COMMAND = {"script": False, "recovery": Recovery(max_retries=0)}
IMPORT = rank(0, exit_code=1, error_type="ImportError", error="ImportError: no foo")
VALUE = rank(0, exit_code=1, error_type="ValueError", error="ValueError: 7")

MISSING = rank(0, exit_code=1, error_type="FileNotFoundError", error="FileNotFoundError: no train.csv")
CUDA = rank(0, exit_code=1, error="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
ECC = rank(1, exit_code=1, error="AcceleratorError: CUDA error: uncorrectable ECC error encountered")
FULL = rank(0, exit_code=1, error="OSError: [Errno 28] No space left on device: 'x'")
PEER = rank(0, exit_code=1, error="torch.distributed.DistBackendError: Connection closed by peer")
WATCHDOG = "[rank0]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE)"
NO_TORCH = (
    "/usr/bin/python3: Error while finding module specification for 'torch.distributed.run' "
    "(ModuleNotFoundError: No module named 'torch')\n"
)
ABORT = rank(0, signal=6)
FOREIGN = {"GPU-0": "process 7 of bob takes 12.0 GiB of GPU 0"}
GPUS = ("GPU-0", "GPU-1")

T, R = Trigger, EndReason
VERDICTS = [
    # job, end, trigger, reason, counted
    ({}, {"exit_code": 0}, T.SUCCEED, R.SUCCEEDED, False),
    ({}, {"exit_code": 1}, T.RETRY, R.USER_ERROR, True),
    ({"streak": 1}, {"exit_code": 1}, T.BACK_OFF, R.USER_ERROR, True),
    ({"streak": 2}, {"exit_code": 1}, T.FAIL, R.USER_ERROR, False),
    ({"streak": 2, "advanced": True}, {"exit_code": 1}, T.RETRY, R.USER_ERROR, True),
    (COMMAND, {"exit_code": 3}, T.FAIL, R.USER_ERROR, False),
    ({}, {"signal": 9}, T.RETRY, R.KILLED, True),
    ({}, {"exit_code": 1, "ranks": (rank(1, signal=9), VALUE)}, T.RETRY, R.KILLED, True),
    ({}, {"exit_code": 1, "ranks": (IMPORT,)}, T.FAIL, R.USER_ERROR, False),
    ({"advanced": True}, {"exit_code": 1, "ranks": (IMPORT,)}, T.RETRY, R.USER_ERROR, True),
    ({}, {"exit_code": 1, "ranks": (VALUE,)}, T.RETRY, R.USER_ERROR, True),
    ({"last_error": VALUE.error}, {"ranks": (VALUE,)}, T.FAIL, R.USER_ERROR, False),
    ({}, {"lost": True}, T.RETRY, R.LOST, True),
    (COMMAND, {"lost": True}, T.FAIL, R.LOST, False),
    ({}, {"stopped": True, "exit_code": 0}, T.RETRY, R.KILLED, False),
    ({"streak": 2}, {"stopped": True, "exit_code": 143}, T.RETRY, R.KILLED, False),
    (COMMAND, {"stopped": True, "signal": 15}, T.FAIL, R.KILLED, False),
    (COMMAND, {"start_error": "no room"}, T.RETRY, R.START_FAILED, True),
    (COMMAND, {"start_error": "no such file", "hopeless": True}, T.FAIL, R.START_FAILED, False),
    ({"stopping_for": R.CANCELLED}, {"exit_code": 0}, T.CANCEL, R.CANCELLED, False),
    ({"stopping_for": R.HELD}, {"signal": 9}, T.HOLD, R.HELD, False),
    ({"stopping_for": R.TIME_LIMIT}, {"stopped": True}, T.FAIL, R.TIME_LIMIT, False),
    ({"stopping_for": R.HANG}, {"stopped": True}, T.RETRY, R.HANG, True),
    # not of its own doing
    ({}, {"ranks": (ECC,)}, T.BACK_OFF, R.GPU_FAULT, False),
    ({"streak": 2, "advanced": True}, {"ranks": (ECC,)}, T.RETRY, R.GPU_FAULT, False),
    ({}, {"ranks": (VALUE,), "faults": {"GPU-0": "XID 79"}}, T.BACK_OFF, R.GPU_FAULT, False),
    (COMMAND, {"exit_code": 1, "tails": {0: "GPU is lost"}}, T.FAIL, R.GPU_FAULT, False),
    ({"streak": 2}, {"lost": True, "rebooted": True}, T.RETRY, R.LOST, False),
    (COMMAND, {"lost": True, "rebooted": True}, T.FAIL, R.LOST, False),
    (COMMAND, {"stopped": True, "rebooted": True}, T.FAIL, R.LOST, False),
    ({"streak": 2}, {"stopped": True, "rebooted": True}, T.RETRY, R.LOST, False),
    ({"streak": 2}, {"signal": 9, "rebooted": True}, T.RETRY, R.LOST, False),
    ({}, {"ranks": (FULL,)}, T.BACK_OFF, R.DISK_FULL, False),
    (COMMAND, {"start_error": "No space left on device"}, T.BACK_OFF, R.DISK_FULL, False),
    # memory
    ({}, {"ranks": (CUDA,)}, T.RETRY, R.GPU_OUT_OF_MEMORY, True),
    ({"last_error": "gpu_out_of_memory"}, {"ranks": (CUDA,)}, T.FAIL, R.GPU_OUT_OF_MEMORY, False),
    ({"streak": 2}, {"ranks": (CUDA,), "foreign": FOREIGN}, T.BACK_OFF, R.GPU_MEMORY_TAKEN, False),
    ({"advanced": True}, {"signal": 9, "oom_kills": 1}, T.FAIL, R.OUT_OF_MEMORY, False),
    ({"advanced": True}, {"signal": 9, "oom_log": "the machine had none"}, T.FAIL, R.OUT_OF_MEMORY, False),
    ({"advanced": True}, {"signal": 9, "oom_elsewhere": 1}, T.RETRY, R.KILLED, True),
    ({}, {"signal": 11, "oom_kills": 1}, T.RETRY, R.KILLED, True),
    (COMMAND, {"exit_code": 137, "oom_kills": 1}, T.FAIL, R.OUT_OF_MEMORY, False),
    ({}, {"ranks": (rank(0, exit_code=1, error="MemoryError"),)}, T.FAIL, R.OUT_OF_MEMORY, False),
    # peers
    ({}, {"ranks": (PEER, VALUE)}, T.RETRY, R.USER_ERROR, True),
    ({}, {"ranks": (PEER, rank(1, signal=9))}, T.RETRY, R.PEER_LOST, True),
    ({}, {"ranks": (rank(1, signal=9), PEER)}, T.RETRY, R.KILLED, True),
    ({}, {"ranks": (ABORT, rank(1, signal=9)), "tails": {0: WATCHDOG}}, T.RETRY, R.PEER_LOST, True),
    # what the next attempt would meet again
    ({}, {"ranks": (rank(0, exit_code=2),), "tails": {0: "usage: train.py"}}, T.FAIL, R.USER_ERROR, False),
    ({}, {"ranks": (rank(0, exit_code=2, error="E: no", error_type="E"),)}, T.FAIL, R.USER_ERROR, False),
    ({}, {"ranks": (MISSING,)}, T.FAIL, R.USER_ERROR, False),
    ({}, {"exit_code": 1, "tails": {0: NO_TORCH}}, T.FAIL, R.USER_ERROR, False),
    ({}, {"exit_code": 1, "tails": {0: "Traceback …\nValueError: 7\n"}}, T.RETRY, R.USER_ERROR, True),
    ({"last_error": "ValueError: 7"}, {"exit_code": 1, "tails": {0: "ValueError: 7\n"}}, T.FAIL, R.USER_ERROR,
     False),
    ({"stopping_for": R.HANG, "streak": 2}, {"stopped": True}, T.FAIL, R.HANG, False),
]  # fmt: skip


@pytest.mark.parametrize(("job", "end", "trigger", "reason", "counted"), VERDICTS)
def test_the_verdict_follows_from_the_evidence(
    job: dict[str, object], end: dict[str, object], trigger: Trigger, reason: EndReason, counted: bool
) -> None:
    verdict = judge(a_job(**job), AttemptEnd(ended_at=10.0, **end), 0.5, GPUS)  # type: ignore[arg-type]
    assert (verdict.trigger, verdict.reason, verdict.counted) == (trigger, reason, counted)


def test_the_status_is_the_first_failing_ranks_not_the_launchers() -> None:
    end = AttemptEnd(ended_at=1.0, exit_code=1, ranks=(rank(0, exit_code=0), rank(1, exit_code=42)))
    assert shell_status(end) == 42
    assert shell_status(AttemptEnd(ended_at=1.0, signal=9)) == 137
    assert shell_status(AttemptEnd(ended_at=1.0, lost=True)) is None


def test_the_first_retry_is_immediate_and_the_next_ones_wait_ever_longer() -> None:
    assert backoff(10.0, 0, 0.9) == 0.0
    assert [backoff(10.0, n, 0.5) for n in (1, 2, 3)] == [10.0, 20.0, 40.0]
    assert backoff(10.0, 30, 0.5) == LONGEST_BACKOFF
    assert backoff(10.0, 1, 0.0) == 7.5
    assert backoff(10.0, 1, 0.999) == pytest.approx(12.5, abs=0.01)


def test_the_gpu_at_fault_is_the_failing_ranks() -> None:
    verdict = judge(a_job(), AttemptEnd(ended_at=1.0, ranks=(ECC,)), 0.5, GPUS)
    assert verdict.faulty == {"GPU-1": f"rank 1 {ECC.error}"}


@pytest.mark.parametrize(
    ("end", "evidence"),
    [
        ({"ranks": (CUDA,), "foreign": FOREIGN}, f"rank 0 ran out of GPU memory: {FOREIGN['GPU-0']}"),
        ({"ranks": (rank(0, signal=6),), "tails": {0: f"step 4\n{WATCHDOG}\nabort"}},
         f"rank 0 was killed by signal 6 (SIGABRT): {WATCHDOG}"),
        ({"signal": 9, "oom_kills": 2},
         "was killed by the kernel: the machine, or the job's limit, had no memory left"),
        ({"exit_code": 137, "oom_kills": 1},
         "a child of it was killed by the kernel: the machine, or the job's limit, had no memory left"),
        ({"signal": 9, "oom_log": "the limit of its memory was reached (process 7, python3, 1.00 GiB)"},
         "was killed by the kernel: the limit of its memory was reached (process 7, python3, 1.00 GiB)"),
        ({"signal": 9, "oom_elsewhere": 2},
         "was killed by signal 9 (SIGKILL); "
         "the kernel killed 2 processes of this machine meanwhile for want of memory, perhaps this one"),
        ({"lost": True, "rebooted": True}, "the machine was restarted"),
        ({"exit_code": 1, "tails": {0: NO_TORCH}},
         "ended with 1: ModuleNotFoundError: No module named 'torch'"),
    ],
)  # fmt: skip
def test_the_evidence_is_the_line_that_tells(end: dict[str, object], evidence: str) -> None:
    verdict = judge(a_job(), AttemptEnd(ended_at=1.0, **end), 0.5, GPUS)  # type: ignore[arg-type]
    assert verdict.message == evidence
