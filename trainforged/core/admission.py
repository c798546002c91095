"""May this request enter the queue at all? A request that no moment could satisfy is refused."""

from __future__ import annotations

from trainforge.spec import Resources, Schedule
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.state import Draft


def refusal(
    draft: Draft, resources: Resources, schedule: Schedule, already: m.Job | None = None
) -> m.Refused | None:
    """Why the request is refused, or None. `already` is the job whose request is being changed."""
    return _too_large(draft, resources) or _bad_dependency(draft, schedule, already)


def _too_large(draft: Draft, resources: Resources) -> m.Refused | None:
    machine = draft.machine
    gpus = len(draft.all_devices())
    least, most = resources.gpu_range
    if least > gpus or (isinstance(resources.gpu, int) and most > gpus):
        has = f"{gpus} (tfctl gpus)" if gpus else "none; trainforged --simulate-gpus 2 makes some up"
        return _over("resources.gpu", f"0–{gpus}" if gpus else "0", resources.gpu, has)
    if resources.cpu is not None and resources.cpu > machine.cpu:
        return _over("resources.cpu", f"1–{machine.cpu}", resources.cpu, f"{machine.cpu} cores")
    if resources.memory is not None and resources.memory > machine.memory:
        most_memory = f"{machine.memory / 2**30:.1f}Gi"
        found = f"{resources.memory / 2**30:.1f}Gi"
        return _over("resources.memory", f"at most {most_memory}", found, most_memory)
    return None


def _over(path: str, expected: str, found: object, has: str) -> m.Refused:
    message = f"expected {expected}, found {found}; this machine has {has}"
    return m.Refused(code="invalid_spec", path=path, message=message)


def _bad_dependency(draft: Draft, schedule: Schedule, already: m.Job | None) -> m.Refused | None:
    for other in schedule.after:
        problem = None
        outcome = draft.outcome(other)
        if not draft.known(other):
            problem = f"there is no job {other}"
        elif outcome is not None and outcome is not JobState.SUCCEEDED:
            problem = f"job {other} {outcome}; it will never succeed"
        elif already is not None and _leads_to(draft, other, already.id):
            problem = f"job {other} waits for job {already.id}"
        if problem is not None:
            return m.Refused(code="invalid_spec", path="schedule.after", message=problem)
    return None


def _leads_to(draft: Draft, start: int, target: int) -> bool:
    """True if `start` is `target` or waits for it, however indirectly."""
    seen: set[int] = set()
    todo = [start]
    while todo:
        job_id = todo.pop()
        if job_id == target:
            return True
        job = draft.job(job_id)
        if job is not None and job_id not in seen:
            seen.add(job_id)
            todo += job.schedule.after
    return False
