/** Asking the daemon. Every answer that is not 2xx becomes a `Refused` with the daemon's own sentence. */

import { signal } from "@preact/signals";
import type { ErrorAnswer } from "./types";

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** True once the daemon said that nobody is signed in here. Only a new sign-in ends that: until then nothing is asked. */
export const signedOut = signal(false);

export type Query = Record<string, string | number | boolean | null | undefined>;

export function address(path: string, query: Query = {}): string {
  const parts = Object.entries(query)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([key, value]) => `${key}=${encodeURIComponent(String(value))}`);
  return parts.length ? `${path}?${parts.join("&")}` : path;
}

const LONGEST = 30_000; // ms that an answer may take

export async function get<T>(path: string, query: Query = {}, abort?: AbortSignal): Promise<T> {
  // A connection that died while the machine slept would be waited for until the page is closed.
  const late = AbortSignal.timeout(LONGEST);
  const answer = await ask(address(path, query), { signal: abort ? AbortSignal.any([abort, late]) : late });
  return (await answer.json()) as T;
}

export async function send<T>(method: "POST" | "PATCH" | "DELETE", path: string, body: unknown = {}): Promise<T> {
  const answer = await ask(path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

/** The answer once its head is there. Raises Refused; a TypeError is a daemon that is away. */
export async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  if (signedOut.peek()) throw new Refused(401, "not_signed_in", "You are signed out: tfctl dashboard opens the page.");
  const answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  if (answer.ok) return answer;
  const refused = await refusal(answer);
  if (refused.status === 401) signedOut.value = true;
  throw refused;
}

async function refusal(answer: Response): Promise<Refused> {
  try {
    const { error } = (await answer.json()) as ErrorAnswer;
    return new Refused(answer.status, error.code, error.message);
  } catch {
    return new Refused(answer.status, "", `the daemon answered ${answer.status}`);
  }
}

export const AWAY = "The daemon does not answer. This page goes on by itself when it does; tfctl daemon status says more.";

/** What to show of whatever went wrong. */
export function sentence(problem: unknown): string {
  if (problem instanceof Refused) return problem.message;
  if (problem instanceof TypeError || (problem instanceof DOMException && problem.name === "TimeoutError")) return AWAY;
  return problem instanceof Error ? problem.message : String(problem);
}
