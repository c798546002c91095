/** Keeps the store true: loads it, follows the event stream, and loads it anew after every gap. */

import { batch } from "@preact/signals";
import { get, signedOut } from "../api/client";
import { Stream, type Message } from "../api/stream";
import type { EventView, GpuList, JobList, JobProgress, StatusAnswer } from "../api/types";
import * as store from "./store";

const ACTIVE = "starting,running,stopping,unknown,backoff";
const ENDED = "succeeded,failed,cancelled";
export const WAITING_SHOWN = 200;
const APART = 1_000; // ms between two refreshes of the lists

let refreshing = false;
let stale = false;
let timer: ReturnType<typeof setTimeout> | undefined;

export async function start(): Promise<void> {
  for (;;) {
    try {
      const status = await get<StatusAnswer>("/v1/status");
      store.status.value = status;
      new Stream({ message, opened, lost, slept }, status.last_event);
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
  setInterval(() => document.hidden || refreshSoon(), 15_000); // what no event tells: why a job waits, the load
}

function opened(): void {
  batch(() => {
    store.connection.value = "live";
    store.awake.value = true;
    store.generation.value += 1;
  });
  void loadHistory();
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

async function loadHistory(): Promise<void> {
  try {
    const list = await get<GpuList>("/v1/gpus", { history: 600 });
    const now = Date.now() / 1000;
    for (const gpu of list.gpus) if (gpu.history) store.ring(gpu.uuid).load(gpu.history, now);
    store.gpuProblem.value = list.problem;
    store.putGpus(list.gpus, now);
  } catch {
    // The stream is lost with it, and its return brings us here again.
  }
}

/** Ask for the lists, now or as soon as the last answer is a second old. */
export function refreshSoon(): void {
  stale = true;
  if (timer !== undefined || refreshing || document.hidden) return;
  timer = setTimeout(() => {
    timer = undefined;
    void refresh();
  }, store.loaded.value ? 150 : 0);
}

async function refresh(): Promise<void> {
  refreshing = true;
  stale = false;
  try {
    const [status, active, queued, held, ended] = await Promise.all([
      get<StatusAnswer>("/v1/status"),
      get<JobList>("/v1/jobs", { state: ACTIVE, limit: 1000 }),
      get<JobList>("/v1/jobs", { state: "queued", limit: WAITING_SHOWN }),
      get<JobList>("/v1/jobs", { state: "held", limit: WAITING_SHOWN }),
      get<JobList>("/v1/jobs", { state: ENDED, limit: 12 }),
    ]);
    batch(() => {
      store.status.value = status;
      store.putJobs(store.running, active.jobs);
      store.putJobs(store.waiting, [...queued.jobs, ...held.jobs]);
      store.putJobs(store.ended, ended.jobs);
      store.loaded.value = true;
    });
    store.forget();
  } catch {
    // As above: the stream's return asks again.
  }
  await new Promise((done) => setTimeout(done, APART));
  refreshing = false;
  if (stale) refreshSoon();
}
