/** The daemon's words for states and ends, as headings that somebody reads who has never seen one. */

import type { JobState } from "../../api/types";

const CAUSES: Record<string, string> = {
  succeeded: "It succeeded",
  user_error: "Its own code failed",
  out_of_memory: "The machine's memory did not suffice",
  gpu_out_of_memory: "The GPU's memory did not suffice",
  gpu_memory_taken: "Another program took the GPU's memory",
  gpu_fault: "A GPU is faulty",
  peer_lost: "Its ranks lost each other",
  disk_full: "There was no room on the disk",
  killed: "It was killed from outside",
  lost: "It was lost: nobody saw how it ended",
  start_failed: "It could not be started",
  cancelled: "It was cancelled",
  held: "It was stopped, to be held",
  time_limit: "Its time was up",
  hang: "It stood still",
  nan_loss: "Its loss was no number any more",
  dependency: "A job that it waited for did not succeed",
};

const STATES: Record<JobState, string> = {
  queued: "It waits",
  held: "It is held",
  starting: "It is being started",
  running: "It runs",
  stopping: "It is being stopped",
  backoff: "It waits before it is tried again",
  unknown: "It is being found out how it is",
  succeeded: "It succeeded",
  failed: "It failed",
  cancelled: "It was cancelled",
};

/** Why an attempt ended. */
export function causeTitle(cause: string): string {
  return CAUSES[cause] ?? cause.replaceAll("_", " ");
}

export function stateTitle(state: string): string {
  return STATES[state as JobState] ?? state;
}
