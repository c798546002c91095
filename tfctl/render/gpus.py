"""A GPU's figures as tables show them."""

from __future__ import annotations

from tfctl.render.figures import size
from trainforge.api import GpuView

HEADING = ("USE", "MEMORY", "TEMP", "POWER")


def measured(gpu: GpuView) -> tuple[str, str, str, str]:
    """Below `HEADING`; a dash where the device cannot say."""
    return (
        _figure(gpu.utilisation, "%"),
        f"{size(gpu.memory_used)} / {size(gpu.memory_total)}",
        _figure(gpu.temperature, "°C"),
        _figure(gpu.power, "W"),
    )


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f}{unit}"
