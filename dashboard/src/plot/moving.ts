/** Moving about in a plot, by mouse and by keyboard (`touch` has fingers); and not drawing what nobody sees. */

import { useEffect, useState } from "preact/hooks";
import type uPlot from "uplot";
import { touch } from "./touch";
import { shown, type Move, type Window } from "./window";

/** Follows mouse and fingers over a plot, until what it gives is called. */
export function follow(plot: uPlot, move: Move, zoomed: () => boolean): () => void {
  const ends = [pan(plot, move), wheel(plot, move), touch(plot, move, zoomed)];
  return () => ends.forEach((end) => end());
}

/** Shift-drag, or a drag with the middle button, moves the window. */
function pan(plot: uPlot, move: Move): () => void {
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

/** Two fingers on a touch pad, which browsers tell as a wheel with Ctrl, and that itself: about where the pointer is. */
function wheel(plot: uPlot, move: Move): () => void {
  const over = plot.over;
  const turned = (event: WheelEvent) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const { from, to } = shown(plot);
    const at = plot.posToVal(event.clientX - over.getBoundingClientRect().left, "x");
    const factor = Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 120);
    move({ from: at - (at - from) * factor, to: at + (to - at) * factor });
  };
  over.addEventListener("wheel", turned, { passive: false });
  return () => over.removeEventListener("wheel", turned);
}

/** + and − zoom, the arrows move, 0 and Escape show all of it. */
export function keys(event: KeyboardEvent, { from, to }: Window, move: Move): void {
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

/** Whether the node is on the screen, or nearly so. */
export function useInSight(of: { current: Element | null }): boolean {
  const [sight, setSight] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver((entries) => setSight(entries.at(-1)!.isIntersecting), { rootMargin: "300px" });
    watch.observe(of.current!);
    return () => watch.disconnect();
  }, []);
  return sight;
}
