/**
 * What the page knows of the daemon. Each job and each GPU is a signal of its own: a sample that arrives
 * redraws the one row that shows it, and nothing else.
 */

import { batch, signal, type Signal } from "@preact/signals";
import type { EventView, GpuView, JobProgress, JobView, StatusAnswer } from "../api/types";
import { GpuRing } from "./ring";

export type Connection = "connecting" | "live" | "lost";

export const connection = signal<Connection>("connecting");
/** 0 until the daemon has answered; grows with each reconnection: what is drawn from history is asked anew then. */
export const generation = signal(0);
/** False while nobody sees the page: what holds a connection open lets it go. */
export const awake = signal(true);
export const status = signal<StatusAnswer | null>(null);
export const gpuIds = signal<string[]>([]);
export const gpuProblem = signal<string | null>(null);
export const running = signal<number[]>([]);
export const waiting = signal<number[]>([]);
export const ended = signal<number[]>([]);
export const QUEUE_PAGE = 20;
/** How much of the queue somebody wants to see. */
export const queueShown = signal(QUEUE_PAGE);
/** The event that came last: an effect on it sees each of them. */
export const lastEvent = signal<EventView | null>(null);
export const loaded = signal(false);

const jobs = new Map<number, Signal<JobView>>();
const gpus = new Map<string, Signal<GpuView>>();
export const rings = new Map<string, GpuRing>();
/** Counts how often their past was loaded. */
export const recalled = signal(0);

export function jobSignal(id: number): Signal<JobView> | undefined {
  return jobs.get(id);
}

export function gpuSignal(uuid: string): Signal<GpuView> | undefined {
  return gpus.get(uuid);
}

/** Lists leave attempts and spec out: those that are known stay, until the job itself is asked for again. */
export function putJob(job: JobView): void {
  const known = jobs.get(job.id);
  if (!known) {
    jobs.set(job.id, signal(job));
    return;
  }
  const { attempts, spec, root } = known.peek();
  known.value = job.attempts === null ? { ...job, attempts, spec, root } : job;
}

const watched = new Map<number, number>();

/** Keep a job that no list names while a view shows it. Call what it gives when the view goes. */
export function watch(id: number): () => void {
  watched.set(id, (watched.get(id) ?? 0) + 1);
  return () => {
    const left = watched.get(id)! - 1;
    if (left > 0) watched.set(id, left);
    else watched.delete(id);
  };
}

export function putJobs(list: Signal<number[]>, found: readonly JobView[]): void {
  batch(() => {
    found.forEach(putJob);
    const ids = found.map((job) => job.id);
    if (!same(ids, list.value)) list.value = ids;
  });
}

/** Jobs that no list names any more are forgotten, so that a page open for weeks stays small. */
export function forget(): void {
  const kept = new Set([...running.value, ...waiting.value, ...ended.value, ...watched.keys()]);
  for (const id of jobs.keys()) if (!kept.has(id)) jobs.delete(id);
}

export function putProgress(news: JobProgress): void {
  const known = jobs.get(news.job);
  if (!known) return;
  const job = known.value;
  known.value = { ...job, progress: news.progress ?? job.progress, usage: news.usage ?? job.usage };
}

export function putGpus(found: readonly GpuView[], now: number): void {
  batch(() => {
    for (const gpu of found) {
      ring(gpu.uuid).add(now, gpu);
      const known = gpus.get(gpu.uuid);
      if (known) known.value = gpu;
      else gpus.set(gpu.uuid, signal(gpu));
    }
    const ids = [...found].sort((a, b) => a.index - b.index).map((gpu) => gpu.uuid);
    if (!same(ids, gpuIds.value)) gpuIds.value = ids;
  });
}

export function ring(uuid: string): GpuRing {
  let found = rings.get(uuid);
  if (!found) rings.set(uuid, (found = new GpuRing()));
  return found;
}

function same<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
