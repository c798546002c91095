import type { JobView } from "../../api/types";
import { bytes, duration, percent } from "../../format";
import { Bar, metricOf, position, State, Varied } from "../../parts/small";
import { jobSignal } from "../../state/store";

export function Running({ ids }: { ids: number[] }) {
  return (
    <table class="jobs running">
      <thead>
        <tr>
          <th scope="col">Job</th>
          <th scope="col">GPUs</th>
          <th scope="col">Progress</th>
          <th scope="col" class="n">Loss</th>
          <th scope="col" class="n">Accuracy</th>
          <th scope="col" class="n">Time left</th>
          <th scope="col" class="n">Ran for</th>
          <th scope="col" class="n">CPU · memory</th>
        </tr>
      </thead>
      <tbody>
        {ids.map((id) => (
          <Row key={id} id={id} />
        ))}
      </tbody>
    </table>
  );
}

/** Redrawn when this job's own signal moves: about once a second while it reports. */
function Row({ id }: { id: number }) {
  const job = jobSignal(id)?.value;
  if (!job) return null;
  const loss = metricOf(job, "loss");
  const accuracy = metricOf(job, "accuracy");
  return (
    <tr>
      <th scope="row">
        <a href={`/jobs/${id}`}>{job.name}</a>{" "}
        <small>
          {id} · {job.user}
        </small>{" "}
        <Varied of={job} />
        {job.waste && <p class="waste">{job.waste.sentence}</p>}
      </th>
      <td data-label="GPUs">{job.gpu_indices.length ? job.gpu_indices.map((index) => `#${index}`).join(", ") : "none"}</td>
      <td class="progress">
        <Progress job={job} />
      </td>
      <td class="n" data-label={loss?.name ?? "loss"} title={loss?.name}>{loss?.text ?? "–"}</td>
      <td class="n" data-label={accuracy?.name ?? "accuracy"} title={accuracy?.name}>{accuracy?.text ?? "–"}</td>
      <td class="n" data-label="time left">{duration(job.progress?.eta)}</td>
      <td class="n" data-label="ran for">{duration(job.elapsed)}</td>
      <td class="n" data-label="CPU · memory">
        {job.usage ? `${job.usage.cpu.toFixed(1)} cores · ${bytes(job.usage.memory)}` : "–"}
      </td>
    </tr>
  );
}

export function Progress({ job }: { job: JobView }) {
  const where = position(job);
  if (job.state !== "running") {
    return (
      <span class="standing" title={job.why}>
        <State of={job.state} /> {where}
      </span>
    );
  }
  const fraction = job.progress?.fraction ?? null;
  return (
    <span class="standing">
      <span>
        {where ?? "has reported nothing yet"}
        {fraction !== null && <small> {percent(fraction)}</small>}
      </span>
      {fraction !== null && <Bar value={fraction} label={`${percent(fraction)} done`} kind="progress" />}
    </span>
  );
}
