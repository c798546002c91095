/** Lines with places of their own, put over one axis, as uPlot wants them. */

import uPlot from "uplot";

export interface Line {
  name: string;
  x: number[]; // not falling
  values: number[]; // NaN: nothing to draw
  colour: number; // of the palette
  /** What was reported, where `values` are smoothed: figures are told of these. Its line comes just before. */
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
  if (tables.length === 1) return tables[0]!;
  return uPlot.join(tables, lines.map((line) => [0, line.joined === false ? 2 : 1]));
}

/** One value for each place; a logarithmic axis has no room for what is not above zero. */
function table(line: Line, log: boolean): [number[], (number | null)[]] {
  const x: number[] = [];
  const y: (number | null)[] = [];
  for (let i = 0; i < line.x.length; i++) {
    const value = line.values[i]!;
    const drawn = Number.isNaN(value) || (log && value <= 0) ? null : value;
    if (x.length && line.x[i] === x.at(-1)) {
      if (drawn !== null) y[y.length - 1] = drawn;
    } else {
      x.push(line.x[i]!);
      y.push(drawn);
    }
  }
  return [x, y];
}
