/** Who had each GPU when: a lane for each, as SVG. Idle is what is empty. */

import { useMemo, useState } from "preact/hooks";
import type { GpuLane, GpusTimeline, Span } from "../api/types";
import { clock, duration, percent } from "../format";

export const KINDS: Record<Span["kind"], string> = {
  job: "job", set_aside: "set aside", drained: "drained", foreign: "used by others", unknown: "the daemon was away",
};

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
            <span key={tick} style={{ left: `${(100 * (tick - of.from)) / length}%` }}>{clock(tick)}</span>
          ))}
        </div>
        <span />
      </div>
      <p class="hint timeline-under">{under}</p>
    </div>
  );
}

function Lane({ lane, from, length, setUnder }: { lane: GpuLane; from: number; length: number; setUnder: (text: string) => void }) {
  const used = lane.spans.filter((span) => span.kind === "job").reduce((sum, span) => sum + span.to - span.from, 0);
  const away = lane.spans.filter((span) => span.kind !== "job").reduce((sum, span) => sum + span.to - span.from, 0);
  const jobs = new Set(lane.spans.filter((span) => span.kind === "job").map((span) => span.name));
  const label = `GPU ${lane.index}: ${percent(used / length)} by jobs (${[...jobs].join(", ") || "none"}), ${percent(away / length)} not on offer`;
  return (
    <div class="lane">
      <span class="lane-name">GPU {lane.index}</span>
      <svg role="img" aria-label={label} viewBox="0 0 1000 20" preserveAspectRatio="none">
        {lane.spans.map((span) => (
          <rect
            key={`${span.from} ${span.kind}`}
            class={span.kind === "job" ? `span job-${(span.job ?? 0) % 8}` : `span ${span.kind}`}
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
  return `${what}${span.reason ? `: ${span.reason}` : ""}, ${clock(span.from)} – ${clock(span.to)}, ${duration(span.to - span.from)}`;
}

/** Full hours, about eight of them. */
function ticksOf(from: number, to: number): number[] {
  const hours = Math.max(1, Math.ceil((to - from) / 3600 / 8));
  const first = new Date(from * 1000);
  first.setMinutes(60, 0, 0);
  const found: number[] = [];
  for (let tick = first.getTime() / 1000; tick < to; tick += 3600 * hours) found.push(tick);
  return found;
}
