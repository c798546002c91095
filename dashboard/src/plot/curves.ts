/**
 * The curves of one job: loaded thinned to about the width of a plot, then grown by what is new.
 *
 * What a later attempt supersedes is decided by the daemon, so a new attempt means loading anew; so does a
 * series that has grown to twice what a plot can show. Memory is bounded by both.
 */

import { get } from "../api/client";
import type { MetricsAnswer, Series } from "../api/types";

export const POINTS = 1_200; // of a series, after thinning
const LEAST = 200;

/** Of a series, where one plot shows those of several jobs: together they need no more than two do. */
export function shared(jobs: number): number {
  return Math.max(LEAST, Math.min(POINTS, Math.ceil((2 * POINTS) / Math.max(1, jobs))));
}

export type Axis = "step" | "epoch" | "time";

export interface Curve {
  name: string;
  step: number[];
  epoch: (number | null)[];
  time: number[]; // seconds since 1970
  /** NaN for what is not finite: `odd` says what it was. */
  value: number[];
  odd: Map<number, string>; // by place in `value`
  attempt: number[];
}

export class Curves {
  curves = new Map<string, Curve>();
  ranks: number[] = [];
  private newest = 0;
  private attempt = 0;
  private begun: Promise<void> | null = null;
  private first: Promise<void> | null = null;
  private busy: Promise<void> | null = null;

  constructor(
    readonly job: number,
    readonly rank = 0,
    readonly names: readonly string[] = [],
    readonly points = POINTS,
  ) {}

  /** The first load, for all who ask for it. */
  begin(): Promise<void> {
    this.begun ??= this.load();
    return this.begun;
  }

  /** All of it anew. A first load that is under way is not begun twice. */
  load(): Promise<void> {
    if (this.newest > 0) return this.anew();
    this.first ??= this.anew().finally(() => (this.first = null));
    return this.first;
  }

  private async anew(): Promise<void> {
    const answer = await this.ask({ points: this.points });
    this.curves.clear();
    this.newest = this.attempt = 0;
    for (const series of answer.series) this.append(series);
  }

  /** Of the same series, what lies between two times. */
  async between(since: number, until: number): Promise<Map<string, Curve>> {
    const part = new Curves(this.job, this.rank, this.names, this.points);
    for (const series of (await part.ask({ points: this.points, since, until })).series) part.append(series);
    return part.curves;
  }

  /** What came since. Calls while one is under way share its answer. */
  more(): Promise<void> {
    this.busy ??= this.grow().finally(() => (this.busy = null));
    return this.busy;
  }

  private async grow(): Promise<void> {
    if (this.newest === 0) return this.load();
    const answer = await this.ask({ points: this.points, since: this.newest });
    const restarted = answer.series.some((series) => series.attempt.some((attempt) => attempt > this.attempt));
    if (restarted) return this.load();
    for (const series of answer.series) this.append(series);
    if ([...this.curves.values()].some((curve) => curve.value.length > 2 * this.points)) return this.load();
  }

  private async ask(query: Record<string, number>): Promise<MetricsAnswer> {
    const answer = await get<MetricsAnswer>(`/v1/jobs/${this.job}/metrics`, {
      ...query,
      rank: this.rank,
      name: this.names.join(","),
    });
    this.ranks = answer.ranks;
    return answer;
  }

  private append(series: Series): void {
    const known = this.curves.get(series.name);
    const before = known?.value.length ?? 0;
    const value = series.value.map((one) => (typeof one === "string" ? NaN : one));
    // What comes first is kept as it came, without a copy.
    const part = { step: series.step, epoch: series.epoch, time: series.time, value, attempt: series.attempt } as Columns;
    const curve = known ?? { name: series.name, odd: new Map(), ...part };
    if (known) for (const name of COLUMNS) (known[name] as unknown[]).push(...part[name]);
    else this.curves.set(series.name, curve);
    series.value.forEach((one, i) => typeof one === "string" && curve.odd.set(before + i, one));
    for (const time of series.time) this.newest = Math.max(this.newest, time);
    for (const attempt of series.attempt) this.attempt = Math.max(this.attempt, attempt);
  }
}

const COLUMNS = ["step", "epoch", "time", "value", "attempt"] as const;
type Columns = Pick<Curve, (typeof COLUMNS)[number]>;

/**
 * Curves between two places in full detail, for a plot that is zoomed into: those that were thinned, since of the
 * others everything is there. Null where there is no more to see.
 */
export async function detail(of: Curves, axis: Axis, start: number, from: number, to: number): Promise<Map<string, Curve> | null> {
  const thinned = [...of.curves.values()].filter((curve) => curve.value.length >= of.points / 2);
  let since = Infinity;
  let until = -Infinity;
  for (const curve of thinned) {
    const at = places(curve, axis, start);
    const first = at.findIndex((place) => place >= from);
    const end = at.findLastIndex((place) => place <= to);
    if (first >= 0) since = Math.min(since, curve.time[Math.max(0, first - 1)]!);
    if (end >= 0) until = Math.max(until, curve.time[Math.min(end + 1, at.length - 1)]!);
  }
  if (axis === "epoch" || since >= until) return null;
  const found = await of.between(since - 1e-6, until);
  for (const name of found.keys()) if (!thinned.some((curve) => curve.name === name)) found.delete(name);
  return found;
}

/** The places of a curve's points on an axis, not falling. */
export function places(curve: Curve, axis: Axis, start: number): number[] {
  if (axis === "step") return curve.step;
  if (axis === "time") return curve.time.map((time) => time - start);
  return spread(curve.epoch, curve.step);
}

/** Points within epoch n, which all say n, lie evenly after n − 1 and up to n. */
function spread(epochs: (number | null)[], steps: number[]): number[] {
  const found: number[] = [];
  for (let i = 0; i < epochs.length; ) {
    const epoch = epochs[i]!;
    let end = i;
    while (end < epochs.length && epochs[end] === epoch) end++;
    for (let k = i; k < end; k++) found.push(epoch === null ? steps[k]! : epoch - 1 + (k - i + 1) / (end - i));
    i = end;
  }
  return found;
}

/**
 * An exponential mean without the bias of its start. It reaches over the same part of every curve, however many
 * points lie in it: `weight` 0 … 1 is that of one of 200 points, and few points (validation) stay as they are.
 * Gaps stay gaps.
 */
export function smoothed(x: number[], values: number[], weight: number): number[] {
  const reach = (x.at(-1)! - x[0]!) / 200 / Math.max(1e-6, 1 - weight);
  let mean = 0;
  let known = 0; // how much of the mean was seen: 0 … 1
  let before = x[0]! - reach;
  const found = new Array<number>(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (Number.isNaN(value)) {
      found[i] = NaN;
      continue;
    }
    const part = reach > 0 ? 1 - Math.exp(-Math.max(x[i]! - before, reach / 1000) / reach) : 1;
    before = x[i]!;
    mean += part * (value - mean);
    known += part * (1 - known);
    found[i] = mean / known;
  }
  return found;
}

/** The first point of each attempt but the first, on an axis. */
export function restarts(curves: Iterable<Curve>, axis: Axis, start: number): Map<number, number> {
  const found = new Map<number, number>();
  for (const curve of curves) {
    const at = places(curve, axis, start);
    for (let i = 0; i < curve.attempt.length; i++) {
      const attempt = curve.attempt[i]!;
      const known = found.get(attempt);
      if (known === undefined || at[i]! < known) found.set(attempt, at[i]!);
    }
  }
  if (found.size) found.delete(Math.min(...found.keys()));
  return found;
}

const SIDES = /^(val|valid|validation|test|train|eval)[_/.-]/;
const INTEREST = ["loss", "accuracy", "acc", "accuracy_top5", "lr", "learning_rate", "grad_norm", "images_per_second"];

/** Curves that are read together: a quantity while training and while validating. In order of interest. */
export function grouped(names: Iterable<string>): [string, string[]][] {
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const key = name.replace(SIDES, "");
    groups.set(key, [...(groups.get(key) ?? []), name]);
  }
  const side = (name: string) => Number(SIDES.test(name));
  for (const members of groups.values()) members.sort((a, b) => side(a) - side(b) || (a < b ? -1 : 1));
  const rank = (key: string) => INTEREST.indexOf(key) + 1 || INTEREST.length + 1;
  return [...groups].sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : 1));
}
