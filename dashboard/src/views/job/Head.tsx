import type { JobView } from "../../api/types";
import { bytes, capital, duration, moment, percent, plural } from "../../format";
import { Bar, metricOf, position, State, useNow, Varied } from "../../parts/small";
import { Worded } from "../../parts/Worded";
import { isLive } from "../../state/job";
import { wants, withoutName } from "../overview/Waiting";
import { Actions } from "./Actions";

export function Head({ job }: { job: JobView }) {
  const fraction = job.progress?.fraction ?? null;
  return (
    <header class="job-head">
      <div class="job-title">
        <h1>
          {job.name} <small>job {job.id}</small>
        </h1>
        <Varied of={job} />
        <State of={job.state} />
        <Actions job={job} />
      </div>
      {job.description && <p>{job.description}</p>}
      {job.state !== "running" && job.state !== "succeeded" && <p class="why"><Worded text={capital(withoutName(job))} /></p>}
      {job.waste && <p class="waste">{capital(job.waste.sentence)}</p>}
      {fraction !== null && isLive(job) && <Bar value={fraction} label={`${percent(fraction)} done`} kind="progress" />}
      <Facts job={job} />
    </header>
  );
}

function Facts({ job }: { job: JobView }) {
  const now = useNow();
  const loss = metricOf(job, "loss");
  const accuracy = metricOf(job, "accuracy");
  const started = job.attempts?.at(-1)?.started_at;
  const live = isLive(job) && started ? Math.max(job.elapsed, now - Date.parse(started) / 1000) : job.elapsed;
  const facts: [string, string | null][] = [
    ["progress", position(job)],
    [loss?.name ?? "loss", loss?.text ?? null],
    [accuracy?.name ?? "accuracy", accuracy?.text ?? null],
    ["time left", job.progress?.eta ? duration(job.progress.eta) : null],
    ["ran for", job.started_at ? duration(live) : null],
    ["GPUs", job.gpu_indices.length ? job.gpu_indices.map((index) => `#${index}`).join(", ") : wants(job)],
    ["CPU", job.usage ? `${job.usage.cpu.toFixed(1)} of ${plural(job.resources.cpu, "core")}` : plural(job.resources.cpu, "core")],
    ["memory", job.usage ? bytes(job.usage.memory) : job.resources.memory ? bytes(job.resources.memory) : null],
    ["attempt", job.attempt ? String(job.attempt) : null],
    ["priority", String(job.priority)],
    ["user", job.user],
    ["submitted", moment(job.submitted_at)],
    ["ended", job.ended_at ? moment(job.ended_at) : null],
    ["commit", job.git ? `${job.git.commit.slice(0, 10)}${job.git.dirty ? " and changes" : ""}` : null],
  ];
  return (
    <dl class="facts">
      {facts.map(
        ([name, value]) =>
          value !== null && (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}
