/** The last ten minutes of one GPU, a value a second; NaN is a second without a sample. */

import type { GpuSeries, GpuView } from "../api/types";

export const SECONDS = 600;
export type Column = "utilisation" | "memory" | "temperature" | "power";
const COLUMNS: Column[] = ["utilisation", "memory", "temperature", "power"];

export class GpuRing {
  private readonly columns: Record<Column, Float32Array>;
  private newest = 0; // second

  constructor() {
    const column = () => new Float32Array(SECONDS).fill(NaN);
    this.columns = { utilisation: column(), memory: column(), temperature: column(), power: column() };
  }

  /** In place of everything known: figures of each `step` seconds up to about `now`. */
  load(past: GpuSeries, step: number, now: number): void {
    for (const name of COLUMNS) this.columns[name].fill(NaN);
    this.newest = Math.floor(now);
    const kept = { utilisation: past.utilization, memory: past.memory, temperature: past.temperature, power: past.power };
    past.times.forEach((time, i) => {
      for (let second = time; second < time + step; second++) {
        if (second > this.newest - SECONDS && second <= this.newest) for (const name of COLUMNS) this.set(name, second, kept[name][i]);
      }
    });
  }

  add(now: number, gpu: GpuView): void {
    const second = Math.floor(now);
    const from = Math.max(this.newest + 1, second - SECONDS + 1);
    for (let gap = from; gap <= second; gap++) {
      // Up to three seconds between two samples are no gap worth showing.
      for (const name of COLUMNS) this.set(name, gap, second - from < 3 ? this.of(name, gap - 1) : null);
    }
    this.newest = Math.max(this.newest, second);
    this.set("utilisation", second, gpu.utilisation);
    this.set("memory", second, gpu.memory_used);
    this.set("temperature", second, gpu.temperature);
    this.set("power", second, gpu.power);
  }

  /** Oldest first, ending at `now`. */
  values(name: Column, now: number): Float32Array {
    const end = Math.floor(now);
    return Float32Array.from({ length: SECONDS }, (_, i) => {
      const second = end - SECONDS + 1 + i;
      return second > this.newest || second <= this.newest - SECONDS ? NaN : this.of(name, second);
    });
  }

  private of(name: Column, second: number): number {
    return this.columns[name][((second % SECONDS) + SECONDS) % SECONDS]!;
  }

  private set(name: Column, second: number, value: number | null | undefined): void {
    this.columns[name][((second % SECONDS) + SECONDS) % SECONDS] = value ?? NaN;
  }
}
