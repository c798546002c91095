/** One plot (uPlot) with its legend. Drag to zoom, shift-drag to move, double click or 0 for all of it. */

import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { dark, seriesColour } from "../theme";
import { align, type Line } from "./align";
import { axes, place, withUnit, type Across, type Unit } from "./axes";
import { drawBeyond, drawMarks, drawOdd } from "./marks";
import { once } from "./once";
import { follow, keys, useInSight } from "./moving";
import { within, type Window } from "./window";

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
  /** Let few values that are far from all others lie beyond the edge, where an arrow tells of them. */
  cut?: boolean;
}

const IN_TITLE: ReadonlySet<Unit> = new Set(["%", "°C", "W", "cores"]); // of others, each tick or the name itself tells

const ABOVE = 18; // px: attempts are named above the plot, where no curve is
const LEAST_TO_CUT = 8; // values: of fewer none is an outlier

const MOVED = new Set(["mousemove", "mouseleave"]);
/** All plots of a view are read at the same place; a zoom they share by their window. */
const TOGETHER: uPlot.Cursor.Sync = { key: "plots", scales: ["x", null], setSeries: false, filters: { pub: (type) => MOVED.has(type) } };

interface Latest {
  current: ChartProps;
}

export function Chart(props: ChartProps) {
  const { title, lines, x, unit = "", log = false, cut = false, window, height = 220 } = props;
  const holder = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLUListElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const theme = dark.value;
  const shape = [x, unit, log, cut, height, Boolean(props.marks?.size), ...lines.map((line) => `${line.faint}${line.colour}`)].join("|");
  const data = useMemo(() => once(() => align(lines, log)), [lines, log]);
  const newest = useRef(data);
  newest.current = data;
  const named = lines.filter((line) => !line.faint);
  const ends = useMemo(() => reach(lines), [lines]);
  const whole = useRef(ends);
  // While it is zoomed into, a plot may have got no more than what it shows.
  whole.current = window ? { from: Math.min(whole.current.from, ends.from), to: Math.max(whole.current.to, ends.to) } : ends;
  const wanted = useRef(window); // what keys go on from: a plot follows a little later
  wanted.current = window;
  const move = (next: Window | null) => {
    const moved = within(next, whole.current);
    if (!latest.current.onWindow) return;
    wanted.current = moved;
    latest.current.onWindow(moved);
  };

  /** Only while it is in sight: a plot costs a canvas, and there may be hundreds. */
  const sight = useInSight(holder);
  useEffect(() => {
    if (!sight) return undefined;
    const node = holder.current!;
    const made = new uPlot(options(node, latest, legend), newest.current(), node);
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: node.clientWidth, height }));
    resize.observe(node);
    const still = follow(made, move, () => Boolean(latest.current.window));
    return () => {
      still();
      resize.disconnect();
      made.destroy();
      made.ctx.canvas.width = 0; // gives its memory back now, and not when garbage is collected
      plot.current = null;
    };
  }, [shape, theme, sight]);

  useEffect(() => {
    const now = plot.current;
    if (!now) return;
    const { from: min, to: max } = window ?? ends;
    now.setData(data(), false);
    now.setScale("x", { min, max });
    write(legend.current, latest.current, now.cursor.idx ?? null, now);
  }, [data, window, shape, theme, sight]);

  return (
    <figure class="chart" data-title={title}>
      <figcaption>
        <h2>
          {title}
          {IN_TITLE.has(unit) && <small> {unit}</small>}
        </h2>
        <ul ref={legend} class="legend">
          {named.map((line) => (
            <li key={line.name}>
              <i class={`dot series-${(line.colour % 8) + 1}`} aria-hidden="true" />
              {named.length > 1 || line.name !== title ? <span title={line.short && line.name}>{line.short ?? line.name}</span> : null} <b>{withUnit(last(line), unit)}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      <div
        ref={holder}
        class="plot"
        style={{ minHeight: `${height}px` }}
        role="img"
        aria-label={[`${title}: ${named.map((line) => summary(line, unit)).join("; ")}`, ...restarted(props), ...zoomed(props)].join("; ")}
        tabIndex={0}
        onKeyDown={(event) => keys(event, wanted.current ?? whole.current, move)}
      />
    </figure>
  );
}

/** From the first place of all lines to the last: known before anything is drawn, so that keys need not wait for that. */
function reach(lines: Line[]): Window {
  const drawn = lines.filter((line) => line.x.length > 0);
  if (drawn.length === 0) return { from: 0, to: 1 };
  const from = Math.min(...drawn.map((line) => line.x[0]!));
  const to = Math.max(...drawn.map((line) => line.x[line.x.length - 1]!));
  return { from, to: to > from ? to : from + 1 };
}

function options(node: HTMLElement, latest: Latest, legend: { current: HTMLUListElement | null }): uPlot.Options {
  const { lines, x, unit = "", log = false, height = 220 } = latest.current;
  return {
    width: Math.max(120, node.clientWidth),
    height,
    padding: [latest.current.marks?.size ? ABOVE : 8, x === "clock" ? 30 : 20, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 7 }, y: false, sync: TOGETHER },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: (_, min, max) => bounds(min, max, latest.current) } },
    axes: axes(x, unit, log),
    series: [{}, ...lines.map(strokeOf)],
    hooks: {
      draw: [(plot) => drawMarks(plot, latest.current.marks ?? new Map()), (plot) => drawOdd(plot, latest.current.lines), (plot) => latest.current.cut && drawBeyond(plot, latest.current.lines, unit)],
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
    alpha: line.faint ? 0.24 : 1,
    width: line.faint ? 1 : 1.75,
    points: { show: few(line.values) ? true : undefined, size: 5 },
    spanGaps: line.joined ?? true,
    pxAlign: 0,
  } as uPlot.Series;
}

/** So few that no line is seen between them. */
function few(values: number[]): boolean {
  let known = 0;
  for (let i = 0; i < values.length && known < 3; i++) if (!Number.isNaN(values[i])) known++;
  return known < 3;
}

function bounds(min: number | null, max: number | null, props: ChartProps): [number, number] {
  const { log, least, most, cut } = props;
  if (min === null || max === null) return log ? [0.1, 1] : [least ?? 0, most ?? 1];
  if (log) return min === max ? [min / 2, max * 2] : [min, max];
  if (cut) [min, max] = without(props.lines, props.window ?? reach(props.lines), min, max);
  if (least !== undefined) min = Math.min(least, min);
  if (most !== undefined) max = Math.max(most, max);
  const size = Math.max(Math.abs(min), Math.abs(max));
  const apart = max - min > 1e-9 * size ? max - min : 0; // a smoothed constant differs by rounding
  const room = (apart || size || 1) * 0.06;
  return [min === least ? min : min - room, max === most ? max : max + room];
}

const MOST_SORTED = 200; // values of a line: this is done each time that a plot is drawn

/**
 * Without the few values in sight that are further from the others than three times what those reach over. What is
 * faintly behind a smoothed line does not count, and is cut too.
 */
function without(lines: Line[], { from, to }: Window, min: number, max: number): [number, number] {
  const some = (of: Line[]) => {
    const seen: number[] = [];
    for (const { x, values } of of) {
      const every = Math.max(1, Math.ceil(values.length / MOST_SORTED));
      for (let i = 0; i < values.length; i += every) {
        const value = values[i]!;
        if (!Number.isNaN(value) && x[i]! >= from && x[i]! <= to) seen.push(value);
      }
    }
    return seen.sort((a, b) => a - b);
  };
  const known = some(lines.filter((line) => !line.faint));
  if (known.length < LEAST_TO_CUT) return [min, max];
  const low = known[Math.ceil(0.02 * (known.length - 1))]!;
  const high = known[Math.floor(0.98 * (known.length - 1))]!;
  const far = 3 * (high - low);
  if (far <= 0 || (min >= low - far && max <= high + far)) return [min, max];
  const all = some(lines);
  return [
    min < low - far ? all.find((value) => value >= low - far)! : min,
    max > high + far ? all.findLast((value) => value <= high + far)! : max,
  ];
}

/** The values under the cursor, else the last: written straight into the legend, many times a second. */
function write(legend: HTMLUListElement | null, { lines, unit = "", x }: ChartProps, index: number | null, plot: uPlot): void {
  if (!legend) return;
  let item = 0;
  for (const line of lines) {
    if (line.faint) continue;
    const node = legend.children[item++]?.lastElementChild;
    if (!node) continue;
    const where = index === null ? undefined : plot.data[0][index];
    const value = where === undefined ? last(line) : near(line, where);
    const at = where === undefined || item > 1 ? "" : ` at ${place(where, x)}`;
    node.firstChild!.nodeValue = withUnit(value, unit) + at; // of its own text, which it goes on with
  }
}

/** Series of one plot do not share all places: the value at the nearest place before. Null in a gap. */
function near(line: Line, where: number): number | string | null {
  let low = 0;
  let high = line.x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (line.x[middle]! <= where) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return null;
  const value = (line.raw ?? line.values)[low - 1]!;
  return line.odd?.get(low - 1) ?? (Number.isNaN(value) ? null : value);
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

function zoomed({ window, x }: ChartProps): string[] {
  return window ? [`shown from ${place(window.from, x)} to ${place(window.to, x)}`] : [];
}

function summary(line: Line, unit: Unit): string {
  const values = line.raw ?? line.values;
  let least = Infinity;
  let most = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (least > most) return `${line.name} has no values`;
  return `${line.name} is ${withUnit(last(line), unit)} at last, between ${withUnit(least, unit)} and ${withUnit(most, unit)}, ${values.length} points`;
}
