/** One job for its own view: asked for whole, kept true by the stream. */

import { effect, signal, type Signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, Refused, sentence } from "../api/client";
import type { JobView } from "../api/types";
import * as store from "./store";

export interface Shown {
  job: JobView | null;
  problem: string | null;
  missing: boolean;
  again: () => void;
}

const none: Signal<JobView | null> = signal(null);

export function useJob(id: number): Shown {
  const [trouble, setTrouble] = useState<unknown>(null);
  const [, setLoaded] = useState(0);
  const [count, setCount] = useState(0);
  useEffect(() => store.watch(id), [id]);
  useEffect(() => {
    let gone = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = async () => {
      timer = undefined;
      try {
        const found = await get<JobView>(`/v1/jobs/${id}`);
        if (gone) return;
        store.putJob(found);
        setLoaded(id);
        setTrouble(null);
      } catch (problem) {
        if (!gone) setTrouble(problem);
      }
    };
    const soon = () => (timer ??= setTimeout(() => void load(), 100));
    const stop = effect(() => {
      if (store.lastEvent.value?.job === id) soon();
    });
    const stopToo = effect(() => {
      if (store.generation.value >= 0) void load();
    });
    return () => {
      gone = true;
      clearTimeout(timer);
      stop();
      stopToo();
    };
  }, [id, count]);
  const job = (store.jobSignal(id) ?? none).value;
  const missing = trouble instanceof Refused && trouble.code === "no_such_job";
  return { job, missing, problem: trouble ? sentence(trouble) : null, again: () => setCount(count + 1) };
}

export const ENDED = new Set(["succeeded", "failed", "cancelled"]);

export function isLive(job: JobView): boolean {
  return job.state === "running" || job.state === "starting" || job.state === "stopping" || job.state === "unknown";
}
