/** How a plot's axes are written. */

import type uPlot from "uplot";
import { bytes, clock, duration, figure } from "../format";
import { colour } from "../theme";

export type Unit = "" | "%" | "B" | "B/s" | "°C" | "W" | "cores";
export type Across = "step" | "epoch" | "elapsed" | "clock";

const FONT = "11px system-ui, sans-serif";

export function axes(x: Across, unit: Unit, log: boolean): uPlot.Axis[] {
  const ink = { stroke: colour("muted"), font: FONT, ticks: { show: false } };
  const label = (value: number | null) => (value === null || (log && !isRound(value)) ? "" : tick(value, unit));
  return [
    { ...ink, grid: { show: false }, size: 28, space: 80, values: (_, splits) => splits.map((value) => place(value, x)) },
    {
      ...ink,
      grid: { stroke: colour("line"), width: 1 },
      size: sized,
      space: 34,
      values: (_, splits) => splits.map(label),
    },
  ];
}

function sized(_: uPlot, values: string[] | null): number {
  return Math.max(30, ...(values ?? []).map((value) => 12 + 6.6 * (value?.length ?? 0)));
}

export function place(value: number, x: Across): string {
  if (x === "clock") return clock(value);
  if (x === "elapsed") return duration(value);
  return value.toLocaleString("en", { notation: value >= 100_000 ? "compact" : "standard", maximumFractionDigits: 2 });
}

export function tick(value: number, unit: Unit): string {
  if (unit === "B") return bytes(value);
  if (unit === "B/s") return `${bytes(value)}/s`;
  return figure(Number(value.toPrecision(6)));
}

function isRound(value: number): boolean {
  const mantissa = value / 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].some((round) => Math.abs(mantissa - round) < 1e-6);
}
