import { useMemo, useState } from "preact/hooks";
import type { GpuSeries, JobHistory, JobView } from "../../api/types";
import { percent } from "../../format";
import { Chart } from "../../plot/Chart";
import type { Line } from "../../plot/align";
import type { Unit } from "../../plot/axes";
import type { Window } from "../../plot/window";
import { Empty, Problem, Section } from "../../parts/small";
import { isLive } from "../../state/job";
import { useAsked } from "../../state/asked";
import { SHARE, useCurves } from "./Curves";

export function SystemTab({ job }: { job: JobView }) {
  const { answer, problem, again } = useAsked<JobHistory>(`/v1/jobs/${job.id}/history`, { points: 600 }, isLive(job) ? 5 : undefined);
  return (
    <>
      <Shares job={job} />
      {problem && !answer && <Problem text={problem} retry={again} />}
      {answer && (measured(answer) ? <History job={job} of={answer} /> : <Empty>Nothing was measured yet: figures come with the first seconds of an attempt.</Empty>)}
    </>
  );
}

function History({ job, of }: { job: JobView; of: JobHistory }) {
  const [window, setWindow] = useState<Window | null>(null);
  const marks = useMemo(
    () => new Map(of.attempts.slice(1).map((one) => [one.attempt, Date.parse(one.started_at) / 1000])),
    [of],
  );
  const network = job.usage?.received != null || known(of.received);
  const plain = (name: string, values: (number | null)[]): Line[] => [line(name, of.times, values, 0)];
  const charts: [string, Unit, Line[]][] = useMemo(
    () => [
      ...gpuCharts(of.gpus),
      ["CPU", "cores", plain("CPU", of.cpu)],
      ["Memory", "B", plain("Memory", of.memory)],
      ["Disk", "B/s", [line("read", of.times, of.read, 1), line("written", of.times, of.written, 0)]],
      ...(network ? [["Network", "B/s", [line("received", of.times, of.received, 1), line("sent", of.times, of.sent, 0)]] as [string, Unit, Line[]]] : []),
    ],
    [of, network],
  );
  return (
    <>
      <div class="charts">
        {charts.map(([title, unit, lines]) => (
          <Chart key={title} title={title} unit={unit} lines={lines} x="clock" marks={marks} window={window} onWindow={setWindow} least={0} {...(unit === "%" ? { most: 100 } : {})} height={180} />
        ))}
      </div>
      {(network || known(of.read)) && (
        <p class="hint">
          {network
            ? "Network is what its processes carry over TCP, what they send each other on this machine included; UDP and RDMA are not seen."
            : "Network: not known here."}
        </p>
      )}
    </>
  );
}

/** A job that waits has a past, too: one in which nobody measured anything. */
function measured(of: JobHistory): boolean {
  return known(of.cpu) || known(of.memory) || of.gpus.some((gpu) => known(gpu.utilization));
}

const known = (values: (number | null)[]) => values.some((value) => value !== null);

export function gpuCharts(gpus: readonly GpuSeries[]): [string, Unit, Line[]][] {
  if (gpus.length === 0) return [];
  const of = (column: "utilization" | "memory" | "temperature" | "power") =>
    gpus.map((gpu, i) => line(`GPU ${gpu.index}`, gpu.times, gpu[column], i));
  return [
    ["GPU use", "%", of("utilization")],
    ["GPU memory", "B", of("memory")],
    ["Temperature", "°C", of("temperature")],
    ["Power", "W", of("power")],
  ];
}

/** A single value that is missing among known ones (two clocks that beat) is no gap; more of them are. */
function line(name: string, times: number[], values: (number | null)[], colour: number): Line {
  const x: number[] = [];
  const known: number[] = [];
  values.forEach((value, i) => {
    const alone = value === null && values[i - 1] != null && values[i + 1] != null;
    if (alone) return;
    x.push(times[i]!);
    known.push(value ?? NaN);
  });
  return { name, x, values: known, colour, joined: false };
}

const KINDS = ["data", "compute", "communication"] as const;

/** Where each rank's time goes, as the ranks report it: `data_share`, `compute_share`, `communication_share`. */
function Shares({ job }: { job: JobView }) {
  const first = useCurves(job, 0, KINDS.map((kind) => `${kind}_share`));
  const shares = [...first.curves.keys()].filter((name) => SHARE.test(name));
  if (shares.length === 0) return null;
  const ranks = first.ranks.length ? first.ranks : [0];
  return (
    <Section id="shares" title="Where each rank's time goes" aside="at the last report">
      <ul class="legend wide">
        {KINDS.map((kind) => (
          <li key={kind}>
            <i class={`dot share-${kind}`} aria-hidden="true" />
            {kind}
          </li>
        ))}
      </ul>
      <div class="shares">
        {ranks.map((rank) => (
          <RankShares key={rank} job={job} rank={rank} />
        ))}
      </div>
    </Section>
  );
}

function RankShares({ job, rank }: { job: JobView; rank: number }) {
  const { curves } = useCurves(job, rank, KINDS.map((kind) => `${kind}_share`));
  const parts = KINDS.map((kind) => [kind, curves.get(`${kind}_share`)?.value.at(-1) ?? 0] as const);
  return (
    <div class="share-row">
      <span>rank {rank}</span>
      <span class="share" role="img" aria-label={parts.map(([kind, part]) => `${kind} ${percent(part)}`).join(", ")}>
        {parts.map(([kind, part]) => (
          <i key={kind} class={`share-${kind}`} style={{ width: `${(100 * part).toFixed(2)}%` }} />
        ))}
      </span>
      <span class="share-figures">{parts.map(([, part]) => percent(part)).join(" · ")}</span>
    </div>
  );
}
