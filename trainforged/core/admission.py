"""May this request enter the queue at all? A request that no moment could satisfy is refused."""

from __future__ import annotations

from trainforge.spec import Resources, Schedule
from trainforged.core import dependencies
from trainforged.core import messages as m
from trainforged.core.state import Draft

NONE = "none: --gpu 0 runs it on the CPU, and trainforged --simulate-gpus 2 makes some up to try things with"


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
        has = f"{gpus} (tfctl gpus)" if gpus else NONE
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
    for key in ("after", "afterany", "afternotok"):
        for other in getattr(schedule, key):
            problem = None
            if not draft.known(other):
                problem = f"there is no job {other}"
            elif already is not None and _leads_to(draft, other, already.id):
                problem = f"job {other} waits for job {already.id}"
            elif key == "afternotok" and other in schedule.after:
                problem = f"job {other} cannot both succeed and fail"
            if problem is not None:
                return m.Refused(code="invalid_spec", path=f"schedule.{key}", message=problem)
    return _in_vain(draft, schedule)


def _in_vain(draft: Draft, schedule: Schedule) -> m.Refused | None:
    found = dependencies.in_vain(schedule, draft.outcome)
    if found is None:
        return None
    key, other, ended = found
    never = "fail" if key == "afternotok" else "succeed"
    message = f"job {other} {dependencies.how(ended)}; it will never {never}"
    return m.Refused(code="invalid_spec", path=f"schedule.{key}", message=message)


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
            todo += job.schedule.waits_for
    return False
