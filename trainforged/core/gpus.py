"""What is known of GPUs changes: seen, drained, trusted again."""

from __future__ import annotations

from typing import Any

import msgspec

from trainforged.core import messages as m
from trainforged.core.state import Draft

replace = msgspec.structs.replace


def devices_observed(draft: Draft, event: m.DevicesObserved) -> m.Reply:
    for seen in event.devices:
        known = draft.device(seen.uuid)
        if known is not None:
            seen = replace(seen, set_aside=known.set_aside, drained=known.drained)
        if seen != known:
            draft.put_device(seen)
            _note_device(draft, event.time, known, seen)
    _forget_others(draft, event)
    draft.reschedule = True
    return m.Accepted()


def _forget_others(draft: Draft, event: m.DevicesObserved) -> None:
    held = {uuid for lease in draft.all_leases() for uuid in lease.gpus}
    seen = {device.uuid for device in event.devices}
    for device in draft.all_devices():
        if device.uuid not in seen | held:
            draft.remove_device(device.uuid)
            draft.note(event.time, "gpu_gone", f"GPU {device.index} is no longer there", gpu=device.uuid)


def _note_device(draft: Draft, time: float, known: m.Device | None, seen: m.Device) -> None:
    was = known.refusal if known is not None else None
    if known is None:
        draft.note(time, "gpu_found", f"GPU {seen.index} was found: {seen.name}", gpu=seen.uuid)
    if seen.refusal != was and seen.refusal is not None:
        draft.note(time, "gpu_withheld", f"GPU {seen.index}: {seen.refusal}", gpu=seen.uuid)
    elif was is not None and seen.refusal is None:
        draft.note(time, "gpu_offered", f"GPU {seen.index} is offered again", gpu=seen.uuid)


def drain_requested(draft: Draft, event: m.DrainRequested) -> m.Reply:
    return _change_device(draft, event.time, event.uuid, "gpu_drained", "is drained", drained=event.reason)


def undrain_requested(draft: Draft, event: m.UndrainRequested) -> m.Reply:
    return _change_device(
        draft, event.time, event.uuid, "gpu_undrained", "is offered again", drained=None, set_aside=None
    )


def gpu_faulted(draft: Draft, event: m.GpuFaulted) -> m.Reply:
    set_aside(draft, event.time, event.uuid, event.message)
    return m.Accepted()


def gpu_cleared(draft: Draft, event: m.GpuCleared) -> m.Reply:
    device = draft.device(event.uuid)
    if device is None or device.set_aside != event.reason:  # by now for another reason, or for none
        return m.Refused(code="conflict", message=f"GPU {event.uuid} is not set aside for that")
    words = "is offered again: its memory has come back"
    return _change_device(draft, event.time, event.uuid, "gpu_returned", words, set_aside=None)


def set_aside(draft: Draft, time: float, uuid: str, why: str) -> None:
    """Give the GPU out no more, until somebody who has looked at it says so."""
    device = draft.device(uuid)
    if device is not None and device.set_aside != why:
        draft.put_device(replace(device, set_aside=why))
        draft.note(time, "gpu_set_aside", f"GPU {device.index} set aside: {why}", gpu=uuid)


def _change_device(draft: Draft, time: float, uuid: str, type: str, words: str, **fields: Any) -> m.Reply:
    device = draft.device(uuid)
    if device is None:
        return m.Refused(code="not_found", message=f"there is no GPU {uuid}")
    draft.put_device(replace(device, **fields))
    draft.note(time, type, f"GPU {device.index} {words}", gpu=uuid)
    draft.reschedule = True
    return m.Accepted()


def settings_changed(draft: Draft, event: m.SettingsChanged) -> m.Reply:
    draft.patience = event.patience
    draft.reschedule = True
    return m.Accepted()
