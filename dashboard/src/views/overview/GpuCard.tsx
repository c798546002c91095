import { useMemo } from "preact/hooks";
import type { GpuView } from "../../api/types";
import { percent, share } from "../../format";
import { Bar, useNow } from "../../parts/small";
import { Sparkline } from "../../parts/Sparkline";
import { gpuSignal, jobSignal, recalled, ring, running } from "../../state/store";

const WORDS: Record<string, string> = {
  free: "free", leased: "in use", releasing: "being cleared", foreign: "used by others",
  set_aside: "set aside", drained: "drained", excluded: "kept back",
};

export function gpuWord(gpu: GpuView): string {
  return WORDS[gpu.state] ?? gpu.state;
}

export function GpuCard({ uuid }: { uuid: string }) {
  const gpu = gpuSignal(uuid)?.value;
  if (!gpu) return null;
  void running.value; // a holder's name may come to be known after the GPU
  const memory = gpu.memory_used === null ? null : gpu.memory_used / gpu.memory_total;
  return (
    <article class={`gpu ${gpu.state}`} aria-label={`GPU ${gpu.index}`}>
      <header>
        <h3>
          GPU {gpu.index} <small>{gpu.name}</small>
        </h3>
        <span class={`health ${gpu.state}`}>{gpu.job === null ? gpuWord(gpu) : <Whose job={gpu.job} />}</span>
      </header>
      <div class="gpu-use">
        <p class="big">
          {gpu.utilisation === null ? "–" : gpu.utilisation}
          <small> %</small>
        </p>
        <History gpu={gpu} />
      </div>
      <div class="gpu-memory">
        <Bar value={memory} label={`memory ${percent(memory)} used`} />
        <span>{share(gpu.memory_used, gpu.memory_total)}</span>
      </div>
      <p class="gpu-figures">
        <span>{gpu.temperature === null ? "– °C" : `${gpu.temperature} °C`}</span>
        <span>
          {gpu.power === null ? "–" : Math.round(gpu.power)}
          {gpu.power_limit !== null && ` / ${Math.round(gpu.power_limit)}`} W
        </span>
        <span class="whose">
          {gpu.reason ? <em title={gpu.reason}>{gpu.reason}</em> : gpu.job !== null && jobSignal(gpu.job)?.value.user}
        </span>
      </p>
    </article>
  );
}

function History({ gpu }: { gpu: GpuView }) {
  const now = Math.floor(useNow(2));
  const loads = recalled.value; // of what is drawn here
  const lines = useMemo(() => {
    const known = ring(gpu.uuid);
    const memory = known.values("memory", now).map((value) => (100 * value) / gpu.memory_total);
    return [
      { values: memory, colour: "memory" },
      { values: known.values("utilisation", now), colour: "use", fill: true },
    ];
  }, [gpu.uuid, now, loads]);
  const use = lines[1]!.values;
  return <Sparkline lines={lines} most={100} label={`use and memory over the last ten minutes; mean use ${mean(use)}`} />;
}

function mean(values: Float32Array): string {
  const known = values.filter((value) => !Number.isNaN(value));
  return known.length ? `${(known.reduce((a, b) => a + b, 0) / known.length).toFixed(0)} %` : "unknown";
}

function Whose({ job }: { job: number }) {
  return <a href={`/jobs/${job}`}>{jobSignal(job)?.value.name ?? `job ${job}`}</a>;
}
