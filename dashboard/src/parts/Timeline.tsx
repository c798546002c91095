/** Who had each GPU when: a lane for each, as SVG. Idle is what is empty; what is not known is no idleness. */

import { useMemo, useState } from "preact/hooks";
import type { GpuLane, GpusTimeline, Span } from "../api/types";
import { clock, duration, moment, percent } from "../format";

export const KINDS: Record<Span["kind"], string> = {
  job: "job", set_aside: "set aside", drained: "drained", foreign: "used by others", unknown: "not known: no daemon was there",
};

const STEPS = [300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400]; // seconds between two ticks

/** Without the time at its beginning of which nothing is known of any GPU. */
export function known(of: GpusTimeline): GpusTimeline {
  const since = (lane: GpuLane) => (lane.spans[0]?.kind === "unknown" && lane.spans[0].from <= of.from ? lane.spans[0].to : of.from);
  const from = Math.min(...of.gpus.map(since));
  if (!(from > of.from && from < of.to)) return of;
  const cut = (lane: GpuLane) => lane.spans.filter((span) => span.to > from).map((span) => ({ ...span, from: Math.max(span.from, from) }));
  return { ...of, from, gpus: of.gpus.map((lane) => ({ ...lane, spans: cut(lane) })) };
}

export function Timeline({ of }: { of: GpusTimeline }) {
  const [under, setUnder] = useState<string>("");
  const length = of.to - of.from;
  const ticks = useMemo(() => ticksOf(of.from, of.to), [of.from, of.to]);
  return (
    <div class="timeline" onMouseLeave={() => setUnder("")}>
      {of.gpus.map((lane) => (
        <Lane key={lane.uuid} lane={lane} from={of.from} length={length} setUnder={setUnder} />
      ))}
      <div class="lane axis" aria-hidden="true">
        <span />
        <div class="ticks">
          {ticks.map((tick) => (
            <span key={tick} style={{ left: `${(100 * (tick - of.from)) / length}%` }}>{length > 172_800 ? clock(tick, 86_400) : clock(tick)}</span>
          ))}
        </div>
        <span />
      </div>
      <p class="hint timeline-under" role="status">{under || "Point at a bar, or go along a lane with the arrow keys: whose it was stands here."}</p>
    </div>
  );
}

function Lane({ lane, from, length, setUnder }: { lane: GpuLane; from: number; length: number; setUnder: (text: string) => void }) {
  const known = length - taken(lane, (kind) => kind === "unknown");
  const share = (of: (kind: Span["kind"]) => boolean) => percent(known > 0 ? taken(lane, of) / known : null);
  const jobs = new Set(lane.spans.filter((span) => span.kind === "job").map((span) => span.name));
  const label = [
    `GPU ${lane.index}: ${share((kind) => kind === "job")} by jobs (${[...jobs].join(", ") || "none"})`,
    `${share((kind) => kind !== "job" && kind !== "unknown")} not on offer`,
    ...(known < length ? [`of the ${duration(known)} that are known`] : []),
  ].join(", ");
  const [at, setAt] = useState(-1);
  const walk = (event: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || lane.spans.length === 0) return;
    event.preventDefault();
    const next = at < 0 ? lane.spans.length - 1 : Math.min(lane.spans.length - 1, Math.max(0, at + step));
    setAt(next);
    setUnder(`GPU ${lane.index}: ${told(lane.spans[next]!)}`);
  };
  return (
    <div class="lane" onFocusOut={() => setAt(-1)}>
      <span class="lane-name">GPU {lane.index}</span>
      <svg role="img" aria-label={label} tabindex={0} onKeyDown={walk} viewBox="0 0 1000 20" preserveAspectRatio="none">
        {lane.spans.map((span, i) => (
          <rect
            key={`${span.from} ${span.kind}`}
            class={`span ${span.kind === "job" ? `job-${(span.job ?? 0) % 8}` : span.kind}${i === at ? " at" : ""}`}
            x={(1000 * (span.from - from)) / length}
            width={Math.max(1.2, (1000 * (span.to - span.from)) / length - 0.6)}
            y="0"
            height="20"
            onMouseEnter={() => setUnder(`GPU ${lane.index}: ${told(span)}`)}
          />
        ))}
      </svg>
      <span class="lane-share">{share((kind) => kind === "job")}</span>
    </div>
  );
}

function taken(lane: GpuLane, by: (kind: Span["kind"]) => boolean): number {
  return lane.spans.reduce((sum, span) => (by(span.kind) ? sum + span.to - span.from : sum), 0);
}

function told(span: Span): string {
  const what = span.kind === "job" ? `${span.name ?? "job"} (job ${span.job}, attempt ${span.attempt ?? 1})` : KINDS[span.kind];
  return `${what}${span.reason ? `: ${span.reason}` : ""}, ${moment(span.from)} – ${moment(span.to)}, ${duration(span.to - span.from)}`;
}

/** Round times, about eight of them. */
function ticksOf(from: number, to: number): number[] {
  const step = STEPS.find((seconds) => (to - from) / seconds <= 8) ?? STEPS.at(-1)!;
  const midnight = new Date(from * 1000).setHours(0, 0, 0, 0) / 1000;
  const found: number[] = [];
  for (let tick = midnight; tick < to; tick += step) if (tick > from + 0.03 * (to - from) && tick < to - 0.02 * (to - from)) found.push(tick);
  return found;
}
