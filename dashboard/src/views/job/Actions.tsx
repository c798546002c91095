import { send } from "../../api/client";
import type { JobView } from "../../api/types";
import { ask, say } from "../../parts/Dialog";
import { go } from "../../router";
import { ENDED } from "../../state/job";
import { putJob } from "../../state/store";

/** What can be done with a job in its state; each is asked for before it is done. */
export function Actions({ job }: { job: JobView }) {
  const over = ENDED.has(job.state);
  const held = job.state === "held";
  return (
    <div class="actions">
      {over && <button onClick={() => retry(job)}>Retry…</button>}
      {held && <button onClick={() => release(job)}>Release…</button>}
      {!over && !held && job.state !== "stopping" && <button onClick={() => hold(job)}>Hold…</button>}
      {!over && <button onClick={() => priority(job)}>Priority…</button>}
      {!over && <button onClick={() => cancel(job)}>Cancel…</button>}
      <a class="button" href={`/compare?jobs=${job.id}`}>Compare</a>
    </div>
  );
}

async function change(job: JobView, verb: string, body: unknown, done: string): Promise<void> {
  putJob(await send<JobView>("POST", `/v1/jobs/${job.id}/${verb}`, body));
  say(done);
}

function cancel(job: JobView): void {
  ask({
    title: `Cancel job ${job.id}?`,
    text:
      job.state === "running"
        ? `${job.name} gets time to save and is ended. Its checkpoints stay, and retry goes on from the newest.`
        : `${job.name} will not start.`,
    verb: "Cancel the job",
    danger: true,
    act: () => change(job, "cancel", {}, `Job ${job.id} is being cancelled`),
  });
}

function hold(job: JobView): void {
  ask({
    title: `Hold job ${job.id}?`,
    text: job.state === "running" ? "It saves, stops and gives its GPUs back, until it is released." : "It will not start until it is released.",
    verb: "Hold the job",
    act: () => change(job, "hold", {}, `Job ${job.id} is held`),
  });
}

function release(job: JobView): void {
  ask({
    title: `Release job ${job.id}?`,
    text: "It starts as soon as there is room for it.",
    verb: "Release the job",
    act: () => change(job, "release", {}, `Job ${job.id} is released`),
  });
}

function priority(job: JobView): void {
  ask({
    title: `Priority of job ${job.id}`,
    text: "From −100 to 100; what is higher starts first.",
    verb: "Set",
    field: { label: "Priority", value: String(job.priority), min: -100, max: 100 },
    act: async (value) => {
      putJob(await send<JobView>("PATCH", `/v1/jobs/${job.id}`, { set: { "schedule.priority": Number(value) } }));
      say(`Job ${job.id} has priority ${value}`);
    },
  });
}

function retry(job: JobView): void {
  ask({
    title: `Retry job ${job.id}?`,
    text: "A new job goes on from the newest checkpoint, with the same code and settings; without a checkpoint it begins anew.",
    verb: "Retry",
    act: async () => {
      const made = await send<JobView>("POST", `/v1/jobs/${job.id}/retry`, { request_id: crypto.randomUUID() });
      say(`Job ${made.id} goes on where job ${job.id} stopped`);
      go(`/jobs/${made.id}`);
    },
  });
}
