/** A small area chart on a canvas: cheap to redraw each second, whatever the number of them. */

import { useEffect, useRef } from "preact/hooks";
import { colour, dark } from "../theme";

export interface Line {
  values: ArrayLike<number>;
  /** The name of a colour of the style sheet. */
  colour: string;
  fill?: boolean;
}

export function Sparkline({ lines, most, label, height = 44 }: { lines: Line[]; most: number; label: string; height?: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = dark.value;
  useEffect(() => {
    const node = canvas.current!;
    const paint = () => draw(node, lines, most, height);
    paint();
    const watch = new ResizeObserver(paint);
    watch.observe(node);
    return () => watch.disconnect();
  }, [lines, most, theme, height]);
  return <canvas ref={canvas} class="sparkline" role="img" aria-label={label} />;
}

function draw(canvas: HTMLCanvasElement, lines: Line[], most: number, height: number): void {
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  if (width === 0) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d")!;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = colour("line");
  pen.lineWidth = 1;
  pen.beginPath();
  for (const y of [0.5, height / 2, height - 0.5]) {
    pen.moveTo(0, Math.round(y) + 0.5);
    pen.lineTo(width, Math.round(y) + 0.5);
  }
  pen.stroke();
  for (const line of lines) stroke(pen, line, most, width, height);
}

function stroke(pen: CanvasRenderingContext2D, line: Line, most: number, width: number, height: number): void {
  pen.strokeStyle = pen.fillStyle = colour(line.colour);
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  for (const run of runs(thinned(line.values, Math.ceil(width)))) {
    const at = ([i, value]: readonly [number, number]) => [i * width, height - 2 - (value / most) * (height - 4)] as const;
    pen.beginPath();
    run.forEach((point, i) => (i ? pen.lineTo(...at(point)) : pen.moveTo(...at(point))));
    if (run.length === 1) pen.lineTo(at(run[0]!)[0] + 1, at(run[0]!)[1]);
    pen.stroke();
    if (!line.fill) continue;
    pen.lineTo(at(run.at(-1)!)[0], height);
    pen.lineTo(at(run[0]!)[0], height);
    pen.globalAlpha = 0.16;
    pen.fill();
    pen.globalAlpha = 1;
  }
}

/** Means over equal spans, as [part of the width, value]; NaN where a span has nothing. */
function thinned(values: ArrayLike<number>, spans: number): [number, number][] {
  const count = Math.min(values.length, Math.max(2, Math.floor(spans / 2)));
  return Array.from({ length: count }, (_, i) => {
    let sum = 0;
    let known = 0;
    const end = Math.floor(((i + 1) * values.length) / count);
    for (let k = Math.floor((i * values.length) / count); k < end; k++) {
      const value = values[k]!;
      if (!Number.isNaN(value)) (sum += value), known++;
    }
    return [(i + 1) / count, known ? sum / known : NaN];
  });
}

function* runs(points: [number, number][]): Generator<[number, number][]> {
  let run: [number, number][] = [];
  for (const point of points) {
    if (!Number.isNaN(point[1])) run.push(point);
    else if (run.length) {
      yield run;
      run = [];
    }
  }
  if (run.length) yield run;
}
