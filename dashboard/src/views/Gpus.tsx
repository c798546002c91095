import { useMemo, useState } from "preact/hooks";
import { send } from "../api/client";
import type { GpusHistory, GpusTimeline, GpuView, Span } from "../api/types";
import { bytes, duration, moment, share } from "../format";
import { ask, say } from "../parts/Dialog";
import { Empty, Problem, Section } from "../parts/small";
import { KINDS, known, Timeline } from "../parts/Timeline";
import { Chart } from "../plot/Chart";
import type { Window } from "../plot/window";
import { useAsked } from "../state/asked";
import { gpuIds, gpuProblem, gpuSignal, jobSignal, loaded, running } from "../state/store";
import { gpuCharts } from "./job/System";
import { gpuWord } from "./overview/GpuCard";

const SPANS = [[3600, "hour"], [21_600, "6 hours"], [86_400, "day"], [604_800, "week"]] as const;
const MOST_ROWS = 100;

/** The devices: how they are, how they were, and which are on offer. */
export function Gpus() {
  const [seconds, setSeconds] = useState<number>(3600);
  const ids = gpuIds.value;
  return (
    <>
      <h1>GPUs</h1>
      {loaded.value && ids.length === 0 && <Empty>{gpuProblem.value ?? "This machine has no GPU."} <code>tfctl doctor</code> says what is missing.</Empty>}
      <div class="devices">
        {ids.map((uuid) => <Device key={uuid} uuid={uuid} />)}
      </div>
      {ids.length > 0 && (
        <>
          <div class="controls">
            <span class="inline" id="how-far">The last</span>
            <div class="choices" role="group" aria-labelledby="how-far">
              {SPANS.map(([length, name]) => (
                <button key={length} aria-pressed={seconds === length} onClick={() => setSeconds(length)}>
                  {name}
                </button>
              ))}
            </div>
          </div>
          <Past key={seconds} seconds={seconds} />
        </>
      )}
    </>
  );
}

function Device({ uuid }: { uuid: string }) {
  const gpu = gpuSignal(uuid)?.value;
  if (!gpu) return null;
  void running.value; // a holder's name may come to be known after the GPU
  const job = gpu.job === null ? undefined : jobSignal(gpu.job)?.value;
  return (
    <article class={`panel device ${gpu.state}`} aria-label={`GPU ${gpu.index}`}>
      <div class="block-head">
        <h2>GPU {gpu.index} <small>{gpu.name}{gpu.pci && ` · ${gpu.pci.replace(/^0000(?=....:)/, "")}`}</small></h2>
        <span class={`health ${gpu.state}`}>{gpuWord(gpu)}</span>
      </div>
      {gpu.reason && <p class="note">{gpu.reason}</p>}
      <dl class="facts">
        <div><dt>use</dt><dd>{gpu.utilisation ?? "–"} %</dd></div>
        <div><dt>memory</dt><dd>{share(gpu.memory_used, gpu.memory_total)}</dd></div>
        <div><dt>temperature</dt><dd>{gpu.temperature ?? "–"} °C</dd></div>
        <div><dt>power</dt><dd>{gpu.power === null ? "–" : Math.round(gpu.power)}{gpu.power_limit !== null && ` / ${Math.round(gpu.power_limit)}`} W</dd></div>
        <div class="whose"><dt>job</dt><dd>{gpu.job === null ? "none" : <a href={`/jobs/${gpu.job}`}>{job?.name ?? `job ${gpu.job}`}</a>}</dd></div>
      </dl>
      {gpu.processes.length > 0 && (
        <p class="hint">{gpu.processes.map((one) => `${one.name ?? "process"} (${one.pid}${one.user ? `, ${one.user}` : ""}${one.memory !== null ? `, ${bytes(one.memory)}` : ""})`).join("; ")}</p>
      )}
      <div class="actions">
        {isKeptBack(gpu) ? (
          <button onClick={() => undrain(gpu)}>Offer again…</button>
        ) : (
          gpu.state !== "excluded" && <button onClick={() => drain(gpu)}>Drain…</button>
        )}
      </div>
    </article>
  );
}

/** Also while a job still holds it. */
function isKeptBack(gpu: GpuView): boolean {
  const held = gpu.state === "leased" || gpu.state === "releasing";
  return gpu.state === "drained" || gpu.state === "set_aside" || (held && gpu.reason !== null);
}

function drain(gpu: GpuView): void {
  ask({
    title: `Drain GPU ${gpu.index}?`,
    text: gpu.job === null ? "It is given out no more until it is offered again." : `Job ${gpu.job} goes on to its end; then the GPU is given out no more until it is offered again.`,
    verb: "Drain",
    act: async () => {
      await send("POST", `/v1/gpus/${gpu.uuid}/drain`);
      say(`GPU ${gpu.index} is drained`);
    },
  });
}

function undrain(gpu: GpuView): void {
  ask({
    title: `Offer GPU ${gpu.index} again?`,
    text: gpu.reason ? `It was kept back: ${gpu.reason}.` : "Jobs may get it from now on.",
    verb: "Offer again",
    act: async () => {
      await send("POST", `/v1/gpus/${gpu.uuid}/undrain`);
      say(`GPU ${gpu.index} is offered again`);
    },
  });
}

function Past({ seconds }: { seconds: number }) {
  const [window, setWindow] = useState<Window | null>(null);
  const since = useMemo(() => Math.floor(Date.now() / 1000 - seconds), [seconds]);
  const history = useAsked<GpusHistory>("/v1/gpus/history", { since, points: 600 }, 15);
  const timeline = useAsked<GpusTimeline>("/v1/gpus/timeline", { since }, 15);
  const charts = useMemo(() => gpuCharts(history.answer?.gpus ?? []), [history.answer]);
  return (
    <>
      <Section id="lanes" title="Who had them" aside="what is empty was idle; at the right the share of the time used by jobs">
        {timeline.problem && !timeline.answer && <Problem text={timeline.problem} retry={timeline.again} />}
        {timeline.answer && <Timeline of={known(timeline.answer)} />}
      </Section>
      {timeline.answer && <Health of={timeline.answer} />}
      {history.problem && !history.answer && <Problem text={history.problem} retry={history.again} />}
      <div class="charts">
        {(timeline.answer || timeline.problem) && charts.map(([title, unit, lines]) => (
          <Chart key={title} title={title} unit={unit} lines={lines} x="clock" least={0} {...(unit === "%" ? { most: 100 } : {})} window={window} onWindow={setWindow} height={190} />
        ))}
      </div>
    </>
  );
}

interface Missed {
  gpus: number[];
  span: Span;
}

/** What several GPUs have in common is told once. */
function gathered(of: GpusTimeline): Missed[] {
  const found = new Map<string, Missed>();
  for (const { index, spans } of of.gpus) {
    for (const span of spans) {
      if (span.kind === "job" || (span.kind === "unknown" && span.from <= of.from)) continue;
      const key = [span.kind, span.reason, Math.round(span.from), Math.round(span.to)].join("|");
      const known = found.get(key);
      if (known) known.gpus.push(index);
      else found.set(key, { gpus: [index], span });
    }
  }
  return [...found.values()].sort((a, b) => b.span.from - a.span.from);
}

/** When a GPU was not on offer, and why; the time before the first daemon says nothing of a GPU. Newest first. */
function Health({ of }: { of: GpusTimeline }) {
  const rows = gathered(of);
  return (
    <Section id="health" title="Not on offer">
      {rows.length === 0 ? (
        <Empty>No GPU was set aside, drained or used by others in this time.</Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="group" aria-label="When GPUs were not on offer">
          <table>
            <thead>
              <tr>
                <th scope="col">GPU</th>
                <th scope="col">Since</th>
                <th scope="col">For</th>
                <th scope="col">Why</th>
              </tr>
            </thead>
            <tbody>
              {rows.slice(0, MOST_ROWS).map(({ gpus, span }) => (
                <tr key={`${gpus} ${span.from}`}>
                  <th scope="row">{gpus.join(", ")}</th>
                  <td class="short">{moment(span.from)}</td>
                  <td class="short">{duration(span.to - span.from)}</td>
                  <td>
                    {KINDS[span.kind]}
                    {span.reason && `: ${span.reason}`}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Section>
  );
}
