"""What to do about a job that failed: one sentence, with the command that does it."""

from __future__ import annotations

from trainforge.api import JobView
from trainforge.states import JobState

GO_ON = "tfctl retry {id} goes on from its newest checkpoint"
SEE_LOGS = "see what it wrote: tfctl logs {id} --tail 50; then tfctl retry {id}"
MEND = "mend it, then: tfctl retry {id}"
ADVICE = {
    "user_error": MEND,
    "start_failed": MEND,
    "time_limit": "tfctl retry {id} --set schedule.time_limit=… goes on where it stopped",
    "killed": GO_ON,
    "lost": GO_ON,
    "hang": SEE_LOGS,
    "nan_loss": "a lower learning rate, or an earlier checkpoint, may help; then: tfctl retry {id} "
    "(--set recovery.nan_loss=warn lets it run)",
    "peer_lost": SEE_LOGS,
    "dependency": "tfctl why on the job it waited for; then tfctl retry {id} "
    "(with --set schedule.after=[N] it waits for job N)",
    "out_of_memory": "give it more, or let it take less: tfctl retry {id} --set resources.memory=…",
    "gpu_out_of_memory": "let it take less (a smaller batch, accumulated), then: tfctl retry {id}",
    "gpu_memory_taken": "tfctl gpus says who uses the GPU; then tfctl retry {id}",
    "gpu_fault": "tfctl gpus says what is wrong with it; tfctl retry {id} takes another",
    "disk_full": "make room (tfctl du), then: tfctl retry {id}",
}
OF_THE_PROJECT = ("user_error", "start_failed", "gpu_out_of_memory")  # mended in the code, perhaps


def advice(job: JobView) -> str | None:
    """None for a job that has not failed, or of whose failure nothing follows."""
    if job.state is not JobState.FAILED or job.reason not in ADVICE:
        return None
    what = ADVICE[job.reason].format(id=job.id)
    if job.root is not None and job.reason in OF_THE_PROJECT:
        what += " --code current (else the code runs as it was submitted)"
    return what
