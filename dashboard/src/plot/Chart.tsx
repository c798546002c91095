/** One plot (uPlot) with its legend. Drag to zoom, shift-drag to move, double click or 0 for all of it. */

import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { dark, seriesColour } from "../theme";
import { align, type Line } from "./align";
import { axes, place, withUnit, type Across, type Unit } from "./axes";
import { drawMarks, drawOdd } from "./marks";
import { keys, pan, seen, type Window } from "./moving";

export interface ChartProps {
  title: string;
  lines: Line[];
  /** What is on the horizontal axis. */
  x: Across;
  unit?: Unit;
  log?: boolean;
  marks?: Map<number, number>; // attempt → place
  window?: Window | null;
  onWindow?: (window: Window | null) => void;
  height?: number;
  least?: number; // the vertical axis begins here at the latest
  most?: number;
}

interface Latest {
  current: ChartProps;
}

export function Chart(props: ChartProps) {
  const { title, lines, x, unit = "", log = false, window, height = 220 } = props;
  const holder = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLUListElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const theme = dark.value;
  const shape = [x, unit, log, height, ...lines.map((line) => `${line.name}${line.faint}${line.colour}`)].join("|");
  const data = useMemo(() => once(() => align(lines, log)), [lines, log]);
  const newest = useRef(data);
  newest.current = data;
  const named = lines.filter((line) => !line.faint);

  useEffect(() => {
    const node = holder.current!;
    let end = () => {};
    const stop = seen(node, () => {
      end = start(node);
    });
    return () => {
      stop();
      end();
    };
  }, [shape, theme]);

  /** Once it comes into sight: a plot costs a canvas. */
  const start = (node: HTMLElement): (() => void) => {
    const made = new uPlot(options(node, latest, legend), newest.current(), node);
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: node.clientWidth, height }));
    resize.observe(node);
    const still = pan(made, (next) => latest.current.onWindow?.(next));
    return () => {
      still();
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
  };

  useEffect(
    () =>
      seen(holder.current!, () => {
        const now = plot.current;
        if (!now) return;
        now.setData(data(), false);
        now.setScale("x", range(data()[0], window));
        write(legend.current, latest.current, null, now);
      }),
    [data, window, shape, theme],
  );

  return (
    <figure class="chart" data-title={title}>
      <figcaption>
        <h2>
          {title}
          {unit && !unit.startsWith("B") && <small> {unit}</small>}
        </h2>
        <ul ref={legend} class="legend">
          {named.map((line) => (
            <li key={line.name}>
              <i class={`dot series-${(line.colour % 8) + 1}`} aria-hidden="true" />
              {named.length > 1 || line.name !== title ? <span>{line.name}</span> : null} <b />
            </li>
          ))}
        </ul>
      </figcaption>
      <div
        ref={holder}
        class="plot"
        style={{ minHeight: `${height}px` }}
        role="img"
        aria-label={[`${title}: ${named.map((line) => summary(line, unit)).join("; ")}`, ...restarted(props)].join("; ")}
        tabIndex={0}
        onKeyDown={(event) => plot.current && keys(event, plot.current, (next) => props.onWindow?.(next))}
      />
    </figure>
  );
}

/** Found when it is asked for first: a plot that nobody has seen needs no data. */
function once<T>(find: () => T): () => T {
  let found: { it: T } | null = null;
  return () => (found ??= { it: find() }).it;
}

function range(x: ArrayLike<number>, window: Window | null | undefined): { min: number; max: number } {
  const min = window?.from ?? x[0] ?? 0;
  const max = window?.to ?? x[x.length - 1] ?? 1;
  return { min, max: max > min ? max : min + 1 };
}

function options(node: HTMLElement, latest: Latest, legend: { current: HTMLUListElement | null }): uPlot.Options {
  const { lines, x, unit = "", log = false, height = 220 } = latest.current;
  return {
    width: Math.max(120, node.clientWidth),
    height,
    padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 7 }, y: false },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: (_, min, max) => bounds(min, max, latest.current) } },
    axes: axes(x, unit, log),
    series: [{}, ...lines.map(strokeOf)],
    hooks: {
      draw: [(plot) => drawMarks(plot, latest.current.marks ?? new Map()), (plot) => drawOdd(plot, latest.current.lines)],
      setCursor: [(plot) => write(legend.current, latest.current, plot.cursor.idx ?? null, plot)],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width <= 4) return;
          latest.current.onWindow?.({ from: plot.posToVal(left, "x"), to: plot.posToVal(left + width, "x") });
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      ready: [(plot) => plot.over.addEventListener("dblclick", () => latest.current.onWindow?.(null))],
    },
  };
}

function strokeOf(line: Line): uPlot.Series {
  return {
    stroke: seriesColour(line.colour),
    alpha: line.faint ? 0.28 : 1,
    width: line.faint ? 1 : 1.75,
    points: { show: line.values.length < 3 ? true : undefined, size: 5 },
    spanGaps: line.joined ?? true,
    pxAlign: 0,
  } as uPlot.Series;
}

function bounds(min: number | null, max: number | null, { log, least, most }: ChartProps): [number, number] {
  if (min === null || max === null) return log ? [0.1, 1] : [least ?? 0, most ?? 1];
  if (log) return min === max ? [min / 2, max * 2] : [min, max];
  const room = (max - min || Math.abs(max) || 1) * 0.06;
  return [least === undefined ? min - room : Math.min(least, min), most === undefined ? max + room : Math.max(most, max)];
}

/** The values under the cursor, else the last: written straight into the legend, many times a second. */
function write(legend: HTMLUListElement | null, { lines, unit = "", x }: ChartProps, index: number | null, plot: uPlot): void {
  if (!legend) return;
  let item = 0;
  lines.forEach((line, i) => {
    if (line.faint) return;
    const node = legend.children[item++]?.lastElementChild;
    if (!node) return;
    const under = index === null ? null : near(plot.data[line.raw ? i : i + 1]!, index);
    const at = under === null || index === null || item > 1 ? "" : ` at ${place(plot.data[0][index]!, x)}`;
    node.textContent = withUnit(under ?? last(line), unit) + at;
  });
}

/** Series of one plot do not share all places: the nearest known value before. */
function near(values: ArrayLike<number | null | undefined>, index: number): number | null {
  for (let i = index; i >= 0 && i > index - 200; i--) {
    const value = values[i];
    if (value !== null && value !== undefined && !Number.isNaN(value)) return value;
  }
  return null;
}

function last(line: Line): number | string | null {
  const values = line.raw ?? line.values;
  let end = values.length - 1;
  if (line.joined === false) while (end > 0 && Number.isNaN(values[end])) end -= 1; // what is being measured now
  return line.odd?.get(end) ?? (end < 0 || Number.isNaN(values[end]) ? null : values[end]!);
}

function restarted({ marks, x }: ChartProps): string[] {
  return [...(marks ?? [])].map(([attempt, at]) => `attempt ${attempt} goes on at ${place(at, x)}`);
}

function summary(line: Line, unit: Unit): string {
  let least = Infinity;
  let most = -Infinity;
  for (const value of line.raw ?? line.values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (least > most) return `${line.name} has no values`;
  return `${line.name} is ${withUnit(last(line), unit)} at last, between ${withUnit(least, unit)} and ${withUnit(most, unit)}, ${line.values.length} points`;
}
