"""Which GPUs cannot be trusted any more, from what the driver reports of them. Pure.

XIDs are the NVIDIA driver's error codes. Most of them are a program's own doing (13, 31, 43: its kernel
faulted); those below are the hardware's, or leave the GPU unusable until it is reset, by NVIDIA's catalogue
of XID errors (docs.nvidia.com/deploy/xid-errors).
"""

from __future__ import annotations

from collections.abc import Mapping

from trainforged.devices.inventory import Sample

BAD_XIDS: Mapping[int, str] = {
    46: "it stopped processing",
    48: "an uncorrectable memory error",
    62: "its microcontroller halted",
    64: "a bad memory row could not be replaced",
    74: "an NVLink error",
    79: "it has fallen off the bus",
    95: "an uncontained memory error",
    110: "a security fault",
    119: "its firmware does not answer",
    120: "an error of its firmware",
    136: "an error of its firmware",
    140: "unrecovered memory errors",
    143: "its firmware could not be started",
}


def fault(sample: Sample, before: Sample | None) -> str | None:
    """What this sample newly says against the GPU; None for nothing. `before`: its last sample, if any."""
    for xid in sample.xids:
        if xid in BAD_XIDS:
            return f"XID {xid}: {BAD_XIDS[xid]}"
    if sample.remap_failed and not (before is not None and before.remap_failed):
        return "bad memory rows could not be replaced (nvidia-smi -q -d ROW_REMAPPER)"
    known = before.uncorrected if before is not None else None  # None: it was not told, which is not 0
    if sample.uncorrected is not None and known is not None and sample.uncorrected > known:
        return f"{sample.uncorrected} uncorrectable memory errors (nvidia-smi -q -d ECC)"
    return None
