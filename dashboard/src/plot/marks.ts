/** What is drawn over the curves: where attempts went on, and values that have no height. */

import type uPlot from "uplot";
import { colour, seriesColour } from "../theme";
import type { Line } from "./align";
import { tick, type Unit } from "./axes";

/** A dashed line where each later attempt went on. `marks`: attempt → place. */
export function drawMarks(plot: uPlot, marks: Map<number, number>): void {
  const { ctx: pen, bbox } = plot;
  const scale = devicePixelRatio || 1;
  const end = bbox.left + bbox.width;
  let free = -Infinity;
  pen.save();
  pen.strokeStyle = pen.fillStyle = colour("muted");
  pen.lineWidth = scale;
  pen.font = `${11 * scale}px system-ui, sans-serif`;
  pen.setLineDash([3 * scale, 3 * scale]);
  for (const [attempt, place] of marks) {
    const left = Math.round(plot.valToPos(place, "x", true)) + 0.5;
    if (left < bbox.left || left > end) continue;
    pen.beginPath();
    pen.moveTo(left, bbox.top);
    pen.lineTo(left, bbox.top + bbox.height);
    pen.stroke();
    if (left < free) continue;
    const text = `attempt ${attempt}`;
    const width = pen.measureText(text).width;
    const before = left + width + 8 * scale > end;
    write(pen, text, before ? left - width - 4 * scale : left + 4 * scale, bbox.top - 5 * scale);
    free = left + width + 8 * scale;
  }
  pen.restore();
}

/** Values above or below what is shown: an arrow at the edge where each is, and how far they reach. */
export function drawBeyond(plot: uPlot, lines: Line[], unit: Unit): void {
  const { min, max } = plot.scales.y!;
  if (min == null || max == null) return;
  const { ctx: pen, bbox } = plot;
  const scale = devicePixelRatio || 1;
  const edge = { above: bbox.top, below: bbox.top + bbox.height };
  const furthest = { above: { value: max, left: 0 }, below: { value: min, left: 0 } };
  pen.save();
  for (const line of lines) {
    if (line.faint) continue;
    pen.fillStyle = seriesColour(line.colour);
    (line.raw ?? line.values).forEach((value, index) => {
      const side = value > max ? "above" : value < min ? "below" : null;
      const left = side && plot.valToPos(line.x[index]!, "x", true);
      if (!side || left === null || left < bbox.left || left > bbox.left + bbox.width) return;
      const size = (side === "above" ? 6 : -6) * scale;
      pen.beginPath();
      pen.moveTo(left - 4 * scale, edge[side] + size);
      pen.lineTo(left + 4 * scale, edge[side] + size);
      pen.lineTo(left, edge[side]);
      pen.fill();
      if (Math.abs(value - (max + min) / 2) > Math.abs(furthest[side].value - (max + min) / 2)) furthest[side] = { value, left };
    });
  }
  pen.fillStyle = colour("muted");
  pen.font = `${11 * scale}px system-ui, sans-serif`;
  if (furthest.above.left) write(pen, `↑ to ${tick(furthest.above.value, unit)}`, within(plot, furthest.above.left), edge.above + 18 * scale);
  if (furthest.below.left) write(pen, `↓ to ${tick(furthest.below.value, unit)}`, within(plot, furthest.below.left), edge.below - 10 * scale);
  pen.restore();
}

/** A place for a short text that begins about there, and does not leave the plot. */
function within(plot: uPlot, left: number): number {
  const scale = devicePixelRatio || 1;
  return Math.min(left + 7 * scale, plot.bbox.left + plot.bbox.width - 64 * scale);
}

/** NaN and infinity are named at the upper edge, where they happened. */
export function drawOdd(plot: uPlot, lines: Line[]): void {
  const { ctx: pen, bbox } = plot;
  const scale = devicePixelRatio || 1;
  let free = -Infinity;
  pen.save();
  pen.fillStyle = colour("bad");
  pen.font = `${11 * scale}px system-ui, sans-serif`;
  for (const line of lines) {
    for (const [index, word] of line.odd ?? []) {
      const left = plot.valToPos(line.x[index]!, "x", true);
      if (left < bbox.left || left > bbox.left + bbox.width) continue;
      pen.beginPath();
      pen.moveTo(left - 4 * scale, bbox.top);
      pen.lineTo(left + 4 * scale, bbox.top);
      pen.lineTo(left, bbox.top + 7 * scale);
      pen.fill();
      if (left < free) continue;
      write(pen, word.replace("-", "−").replace("Infinity", "∞"), left + 6 * scale, bbox.top + 22 * scale);
      free = left + 40 * scale;
    }
  }
  pen.restore();
}

/** Readable over a curve: with a rim of the ground's colour. */
function write(pen: CanvasRenderingContext2D, text: string, left: number, base: number): void {
  pen.save();
  pen.textAlign = "left";
  pen.textBaseline = "alphabetic";
  pen.setLineDash([]);
  pen.lineJoin = "round";
  pen.lineWidth = 4 * (devicePixelRatio || 1);
  pen.strokeStyle = colour("surface");
  pen.strokeText(text, left, base);
  pen.fillText(text, left, base);
  pen.restore();
}
