/**
 * Keeps the store true: loads it, follows the event stream, and loads it anew after every gap. Lists and the history
 * of GPUs are asked for while a view shows them, and no more of the queue than is shown.
 */

import { batch, effect } from "@preact/signals";
import { get, signedOut } from "../api/client";
import { Stream, type Message } from "../api/stream";
import type { EventView, GpuList, GpusHistory, JobList, JobProgress, StatusAnswer } from "../api/types";
import { route } from "../router";
import { SECONDS } from "./ring";
import * as store from "./store";

const ACTIVE = "starting,running,stopping,unknown,backoff";
const ENDED = "succeeded,failed,cancelled";
const ENDED_SHOWN = 12;
const APART = 1_000; // ms between two refreshes of the lists

let refreshing = false;
let stale = false;
let opens = 0; // how often the stream has stood
let recent = 0; // the generation whose history of the GPUs is loaded
let timer: ReturnType<typeof setTimeout> | undefined;

export async function start(): Promise<void> {
  for (;;) {
    try {
      const status = await get<StatusAnswer>("/v1/status");
      batch(() => {
        store.status.value = status;
        store.generation.value = 1; // what is asked from here on, the stream goes on from
      });
      const stream = new Stream({ message, opened, lost, slept }, status.last_event);
      effect(() => {
        if (signedOut.value) stream.close();
      });
      break;
    } catch {
      if (signedOut.value) return;
      store.connection.value = "lost";
      await new Promise((done) => setTimeout(done, 1_000));
    }
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && stale) refreshSoon();
  });
  effect(() => {
    if (route.value.view !== "overview") return;
    store.queueShown.value;
    if (store.generation.value !== recent) void loadHistory(store.generation.peek());
    refreshSoon();
  });
  effect(() => {
    if (route.value.view === "gpus") refreshSoon();
  });
  setInterval(() => document.hidden || refreshSoon(), 15_000); // what no event tells: why a job waits, the load
}

function opened(): void {
  batch(() => {
    store.connection.value = "live";
    store.awake.value = true;
    if (++opens > 1) store.generation.value += 1;
  });
  refreshSoon();
}

function slept(): void {
  store.awake.value = false;
}

function lost(): void {
  store.connection.value = "lost";
}

function message({ event, data }: Message): void {
  if (event === "progress") {
    store.putProgress(JSON.parse(data) as JobProgress);
  } else if (event === "gpus") {
    const list = JSON.parse(data) as GpuList;
    store.gpuProblem.value = list.problem;
    store.putGpus(list.gpus, Date.now() / 1000);
  } else {
    store.lastEvent.value = JSON.parse(data) as EventView;
    refreshSoon();
  }
}

async function loadHistory(generation: number): Promise<void> {
  try {
    recent = generation;
    const now = Date.now() / 1000;
    const [list, past] = await Promise.all([
      get<GpuList>("/v1/gpus"),
      get<GpusHistory>("/v1/gpus/history", { since: Math.floor(now - SECONDS), points: SECONDS }),
    ]);
    for (const gpu of past.gpus) store.ring(gpu.uuid).load(gpu, past.step, now);
    store.gpuProblem.value = list.problem;
    store.putGpus(list.gpus, now);
    store.recalled.value += 1;
  } catch {
    recent = 0; // The stream is lost with it, and its return brings us here again.
  }
}

/** Ask for the lists, now or as soon as the last answer is a second old. */
export function refreshSoon(): void {
  stale = true;
  if (timer !== undefined || refreshing || document.hidden) return;
  timer = setTimeout(() => {
    timer = undefined;
    void refresh();
  }, store.loaded.peek() ? 150 : 0);
}

async function refresh(): Promise<void> {
  const { view } = route.peek();
  if (view !== "overview" && view !== "gpus") return; // stays stale, until such a view comes
  refreshing = true;
  stale = false;
  try {
    await (view === "overview" ? refreshAll() : refreshActive());
    store.forget();
  } catch {
    // As above: the stream's return asks again.
  }
  await new Promise((done) => setTimeout(done, APART));
  refreshing = false;
  if (stale) refreshSoon();
}

async function refreshAll(): Promise<void> {
  const limit = store.queueShown.peek();
  const [status, active, queued, held, ended] = await Promise.all([
    get<StatusAnswer>("/v1/status"),
    get<JobList>("/v1/jobs", { state: ACTIVE, limit: 1000 }),
    get<JobList>("/v1/jobs", { state: "queued", limit }),
    get<JobList>("/v1/jobs", { state: "held", limit }),
    get<JobList>("/v1/jobs", { state: ENDED, limit: ENDED_SHOWN }),
  ]);
  batch(() => {
    store.status.value = status;
    store.putJobs(store.running, active.jobs);
    store.putJobs(store.waiting, [...queued.jobs, ...held.jobs]);
    store.putJobs(store.ended, ended.jobs);
    store.loaded.value = true;
  });
}

/** The names of who holds the GPUs. */
async function refreshActive(): Promise<void> {
  const active = await get<JobList>("/v1/jobs", { state: ACTIVE, limit: 1000 });
  batch(() => {
    store.putJobs(store.running, active.jobs);
    store.loaded.value = true;
  });
}
