/** Lines with places of their own, put over one axis, as uPlot wants them. */

import uPlot from "uplot";

export interface Line {
  name: string;
  /** What a legend calls it, where that is clear. */
  short?: string;
  x: number[]; // not falling
  values: number[]; // NaN: nothing to draw
  colour: number; // of the palette
  /** What was reported, where `values` are smoothed: figures are told of these. */
  raw?: number[];
  /** The raw values behind a smoothed line: no place in the legend. */
  faint?: boolean;
  /** False where a gap has to be seen (the daemon was away). */
  joined?: boolean;
  odd?: Map<number, string>;
}

export function align(lines: Line[], log: boolean): uPlot.AlignedData {
  if (lines.length === 0) return [[]];
  const tables = lines.map((line) => table(line, log));
  const [first] = tables as [(typeof tables)[number]];
  // A curve and what is behind it lie at the same places, and most curves of one job do.
  if (tables.every(([x]) => same(x, first[0]))) return [first[0], ...tables.map(([, y]) => y)];
  return uPlot.join(tables, lines.map((line) => [0, line.joined === false ? 2 : 1]));
}

function same(a: number[], b: number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** One value for each place; a logarithmic axis has no room for what is not above zero. */
function table(line: Line, log: boolean): [number[], (number | null)[]] {
  const { x: places, values } = line;
  const x: number[] = [];
  const y: (number | null)[] = [];
  let before = NaN;
  for (let i = 0; i < places.length; i++) {
    const value = values[i]!;
    const drawn = Number.isNaN(value) || (log && value <= 0) ? null : value;
    if (places[i] === before) {
      if (drawn !== null) y[y.length - 1] = drawn;
      continue;
    }
    before = places[i]!;
    x.push(before);
    y.push(drawn);
  }
  return [x, y];
}
