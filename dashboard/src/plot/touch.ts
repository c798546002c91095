/**
 * Fingers on a plot: two zoom, one moves it while it is zoomed into, else it reads the curves. Up and down still
 * scrolls the page.
 */

import type uPlot from "uplot";
import { shown, type Move, type Window } from "./window";

const LEAST = 12; // px between two fingers: closer than that says nothing

interface Start {
  window: Window;
  /** Where each finger was then, by its pointer's id. */
  at: Map<number, number>;
}

export function touch(plot: uPlot, move: Move, zoomed: () => boolean): () => void {
  const over = plot.over;
  const fingers = new Map<number, number>();
  let start: Start = { window: shown(plot), at: new Map() };
  const begin = () => (start = { window: shown(plot), at: new Map(fingers) });
  const down = (finger: PointerEvent) => {
    if (finger.pointerType !== "touch") return;
    fingers.set(finger.pointerId, finger.clientX);
    begin();
  };
  const drag = (finger: PointerEvent) => {
    if (!fingers.has(finger.pointerId)) return;
    fingers.set(finger.pointerId, finger.clientX);
    const box = over.getBoundingClientRect();
    if (fingers.size === 1 && !zoomed()) plot.setCursor({ left: finger.clientX - box.left, top: 1 });
    else move(moved(start, fingers, box));
  };
  const up = (finger: PointerEvent) => {
    if (fingers.delete(finger.pointerId)) begin();
  };
  over.addEventListener("pointerdown", down);
  addEventListener("pointermove", drag);
  addEventListener("pointerup", up);
  addEventListener("pointercancel", up);
  return () => {
    over.removeEventListener("pointerdown", down);
    removeEventListener("pointermove", drag);
    removeEventListener("pointerup", up);
    removeEventListener("pointercancel", up);
  };
}

/** The window in which what each finger took hold of is under it again. */
function moved({ window, at }: Start, fingers: Map<number, number>, box: DOMRect): Window {
  const each = (window.to - window.from) / box.width;
  const [first, second] = [...fingers.keys()] as [number, number | undefined];
  const held = (finger: number) => window.from + (at.get(finger)! - box.left) * each;
  const apart = second === undefined ? 0 : fingers.get(second)! - fingers.get(first)!;
  const scale = second !== undefined && Math.abs(apart) >= LEAST ? (held(second) - held(first)) / apart : each;
  const from = held(first) - (fingers.get(first)! - box.left) * Math.abs(scale);
  return { from, to: from + box.width * Math.abs(scale) };
}
