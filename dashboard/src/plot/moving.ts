/** Moving about in a plot: by mouse, by keyboard; and not drawing what nobody sees. */

import type uPlot from "uplot";

export interface Window {
  from: number;
  to: number;
}

type Move = (window: Window | null) => void;

function shown(plot: uPlot): Window {
  return { from: plot.scales.x!.min ?? 0, to: plot.scales.x!.max ?? 1 };
}

/** Shift-drag, or a drag with the middle button, moves the window. */
export function pan(plot: uPlot, move: Move): () => void {
  const over = plot.over;
  const down = (press: MouseEvent) => {
    if (!press.shiftKey && press.button !== 1) return;
    press.preventDefault();
    press.stopImmediatePropagation();
    const began = shown(plot);
    const each = (began.to - began.from) / over.clientWidth;
    const drag = (to: MouseEvent) => {
      const by = (press.clientX - to.clientX) * each;
      move({ from: began.from + by, to: began.to + by });
    };
    const up = () => {
      removeEventListener("mousemove", drag);
      removeEventListener("mouseup", up);
    };
    addEventListener("mousemove", drag);
    addEventListener("mouseup", up);
  };
  over.addEventListener("mousedown", down, { capture: true });
  return () => over.removeEventListener("mousedown", down, { capture: true });
}

/** + and − zoom, the arrows move, 0 and Escape show all of it. */
export function keys(event: KeyboardEvent, plot: uPlot, move: Move): void {
  const { from, to } = shown(plot);
  const width = to - from;
  const windows: Record<string, Window | null> = {
    "+": { from: from + width / 4, to: to - width / 4 },
    "=": { from: from + width / 4, to: to - width / 4 },
    "-": { from: from - width / 2, to: to + width / 2 },
    ArrowLeft: { from: from - width / 5, to: to - width / 5 },
    ArrowRight: { from: from + width / 5, to: to + width / 5 },
    "0": null,
    Escape: null,
  };
  if (!(event.key in windows) || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  move(windows[event.key]!);
}

/** Calls `draw` now if the node is on the screen, else once it comes there. */
export function seen(node: Element, draw: () => void): () => void {
  const watch = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      draw();
    },
    { rootMargin: "200px" },
  );
  watch.observe(node);
  return () => watch.disconnect();
}
