/** The part of the horizontal axis that a plot shows. */

import type uPlot from "uplot";

export interface Window {
  from: number;
  to: number;
}

export type Move = (window: Window | null) => void;

/** What of the horizontal axis a plot shows. */
export function shown(plot: uPlot): Window {
  return { from: plot.scales.x!.min ?? 0, to: plot.scales.x!.max ?? 1 };
}

/** A window that leaves the curves is moved back to them; one that is wider than they are shows all. */
export function within(next: Window | null, whole: Window): Window | null {
  if (!next) return null;
  const width = next.to - next.from;
  if (!(width > 0) || width >= whole.to - whole.from) return null;
  const from = Math.min(Math.max(next.from, whole.from), whole.to - width);
  return { from, to: from + width };
}
