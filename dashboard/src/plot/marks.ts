/** What is drawn over the curves: where attempts went on, and values that have no height. */

import type uPlot from "uplot";
import { colour } from "../theme";
import type { Line } from "./align";

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
    write(pen, text, before ? left - width - 4 * scale : left + 4 * scale, bbox.top + 11 * scale);
    free = left + width + 8 * scale;
  }
  pen.restore();
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
