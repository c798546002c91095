/** How a plot's axes are written. */

import type uPlot from "uplot";
import { bytes, clock, duration, figure } from "../format";
import { colour } from "../theme";

/** "part": of one, written as a percentage. */
export type Unit = "" | "%" | "part" | "B" | "B/s" | "°C" | "W" | "cores" | "s" | `${string}/s`;
export type Across = "step" | "epoch" | "elapsed" | "clock";

const NAMES: Record<Across, string> = { step: "step", epoch: "epoch", elapsed: "time since its start", clock: "time of day" };
const FONT = "11px system-ui, sans-serif";
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800];
const BYTES = Array.from({ length: 60 }, (_, power) => 2 ** power);

export function axes(x: Across, unit: Unit, log: boolean): uPlot.Axis[] {
  const ink = { stroke: colour("muted"), font: FONT, ticks: { show: false } };
  const label = (value: number | null) => (value === null || (log && !isRound(value)) ? "" : tick(value, unit));
  const timed = x === "clock" || x === "elapsed";
  return [
    {
      ...ink,
      grid: { show: false },
      size: 26,
      gap: 8,
      label: NAMES[x],
      labelSize: 17,
      labelGap: 0,
      labelFont: FONT,
      space: timed ? 84 : 64,
      ...(timed ? { incrs: SECONDS } : {}),
      values: (_, splits, __, ___, step) => splits.map((value) => place(value, x, step)),
    },
    {
      ...ink,
      grid: { stroke: colour("line"), width: 1 },
      size: sized,
      space: 34,
      ...((unit === "B" || unit === "B/s") && !log ? { incrs: BYTES } : {}),
      values: (_, splits) => splits.map(label),
    },
  ];
}

function sized(_: uPlot, values: string[] | null): number {
  return Math.max(30, ...(values ?? []).map((value) => 12 + 6.6 * (value?.length ?? 0)));
}

/** `step`: how far apart such places are, which says how exact they have to be. */
export function place(value: number, x: Across, step = 1): string {
  if (x === "clock") return clock(value, step);
  if (x === "elapsed") return duration(value);
  return value.toLocaleString("en", { notation: value >= 100_000 ? "compact" : "standard", maximumFractionDigits: 2 });
}

export function tick(value: number, unit: Unit): string {
  if (unit === "B") return bytes(value);
  if (unit === "B/s") return `${bytes(value)}/s`;
  if (unit === "part") return `${Number((100 * value).toPrecision(4))} %`;
  return figure(Number(value.toPrecision(6)));
}

const DIGITS: Partial<Record<Unit, number>> = { "%": 0, "°C": 0, W: 0, cores: 2 };

/** A value as it is read out, with its unit. */
export function withUnit(value: number | string | null, unit: Unit): string {
  if (value === null) return "–";
  if (typeof value === "string") return value.replace("-", "−").replace("Infinity", "∞");
  if (unit === "B" || unit === "B/s") return tick(value, unit);
  if (unit === "part") return Number.isFinite(value) ? `${(100 * value).toFixed(1)} %` : figure(value);
  if (!(unit in DIGITS)) return unit ? `${figure(value)} ${unit}` : figure(value);
  return `${Number(value.toFixed(DIGITS[unit]))} ${unit}`;
}

function isRound(value: number): boolean {
  const mantissa = value / 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].some((round) => Math.abs(mantissa - round) < 1e-6);
}
