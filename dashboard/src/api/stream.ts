/**
 * The daemon's events, for as long as the page is open.
 *
 * The browser's own EventSource gives up on an answer like 503 and does not see a connection that died in
 * the machine's sleep, so the stream is read by hand: it remembers the id of the last event it gave, goes on
 * after it (`Last-Event-ID`), and takes silence beyond the daemon's heartbeat for a dead connection.
 */

import { ask, Refused } from "./client";

export interface Message {
  event: string;
  data: string;
}

export interface Listener {
  /** Every event once and in order; `progress` and `gpus` in between. */
  message(message: Message): void;
  /** The stream stands (again). After a gap in time everything that is not an event has to be asked anew. */
  opened(): void;
  /** It does not, and is tried again. */
  lost(): void;
  /** Nobody has seen the page for a while: until `opened` it is not kept true. */
  slept(): void;
}

const SILENCE = 40_000; // ms; the daemon sends a heartbeat each 15 s
const SHORTEST = 250;
const LONGEST = 5_000;
const UNSEEN = 30_000; // ms in the background, after which the connection is given back

export class Stream {
  private last: string | null;
  private abort = new AbortController();
  private heard = Date.now();
  private pause = SHORTEST;
  private wake: (() => void) | null = null;
  private closed = false;
  private asleep = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly listener: Listener,
    after: number,
  ) {
    this.last = String(after);
    setInterval(() => this.check(SILENCE), 5_000);
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.drowse() : this.rise()));
    void this.run();
  }

  close(): void {
    this.closed = true;
    this.hurry();
  }

  /** A browser has six connections to a daemon for all its tabs: one that nobody sees does not keep any. */
  private drowse(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.asleep = true;
      this.listener.slept();
      this.abort.abort();
    }, UNSEEN);
  }

  private rise(): void {
    clearTimeout(this.timer);
    if (!this.asleep) return this.check(20_000);
    this.asleep = false;
    this.hurry();
  }

  /** Begin anew when nothing was heard for so long: the machine slept, or the network went. */
  private check(silence: number): void {
    if (!this.asleep && Date.now() - this.heard > silence) this.hurry();
  }

  private hurry(): void {
    this.heard = Date.now();
    this.pause = SHORTEST;
    this.abort.abort();
    this.wake?.();
  }

  private async run(): Promise<void> {
    while (!this.closed) {
      this.abort = new AbortController();
      try {
        await this.read(this.abort.signal);
      } catch (problem) {
        if (problem instanceof Refused && problem.status === 401) return;
      }
      if (this.closed) return;
      if (!this.asleep) this.listener.lost();
      await this.rest();
    }
  }

  private async read(abort: AbortSignal): Promise<void> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (this.last !== null) headers["Last-Event-ID"] = this.last;
    const answer = await ask("/v1/events", { headers, signal: abort });
    this.heard = Date.now();
    this.pause = SHORTEST;
    this.listener.opened();
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.heard = Date.now();
      const frames = (rest + value).split("\n\n");
      rest = frames.pop()!;
      for (const frame of frames) this.take(frame);
    }
  }

  private take(frame: string): void {
    let event = "message";
    let data: string | null = null;
    let id: string | null = null;
    for (const line of frame.split("\n")) {
      if (line.startsWith("data: ")) data = line.slice(6);
      else if (line.startsWith("event: ")) event = line.slice(7);
      else if (line.startsWith("id: ")) id = line.slice(4);
    }
    if (data !== null) this.listener.message({ event, data });
    if (id !== null) this.last = id;
  }

  private async rest(): Promise<void> {
    const pause = this.asleep ? 2 ** 31 - 1 : this.pause * (0.75 + Math.random() / 2);
    this.pause = Math.min(2 * this.pause, LONGEST);
    await new Promise<void>((done) => {
      const timer = setTimeout(done, pause);
      this.wake = () => (clearTimeout(timer), done());
    });
    this.wake = null;
  }
}
