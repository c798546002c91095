/** Who had each GPU when: a lane for each, as SVG. Idle is what is empty. */

import { useMemo, useState } from "preact/hooks";
import type { GpuLane, GpusTimeline, Span } from "../api/types";
import { clock, duration, moment, percent } from "../format";

export const KINDS: Record<Span["kind"], string> = {
  job: "job", set_aside: "set aside", drained: "drained", foreign: "used by others", unknown: "the daemon was away",
};

const STEPS = [300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400]; // seconds between two ticks

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
  const used = lane.spans.filter((span) => span.kind === "job").reduce((sum, span) => sum + span.to - span.from, 0);
  const away = lane.spans.filter((span) => span.kind !== "job").reduce((sum, span) => sum + span.to - span.from, 0);
  const jobs = new Set(lane.spans.filter((span) => span.kind === "job").map((span) => span.name));
  const label = `GPU ${lane.index}: ${percent(used / length)} by jobs (${[...jobs].join(", ") || "none"}), ${percent(away / length)} not on offer`;
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
      <span class="lane-share">{percent(used / length)}</span>
    </div>
  );
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
