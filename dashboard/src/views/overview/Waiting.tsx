import type { JobView } from "../../api/types";
import { ago, count, duration } from "../../format";
import { State, useNow, Varied } from "../../parts/small";
import { Worded } from "../../parts/Worded";
import { jobSignal, QUEUE_PAGE, queueShown } from "../../state/store";

const MOST = 200; // the list of jobs shows all

export function Waiting({ ids, all }: { ids: number[]; all: number }) {
  const shown = queueShown.value;
  return (
    <>
      <ol class="queue">
        {ids.slice(0, shown).map((id, place) => (
          <Row key={id} id={id} place={place + 1} />
        ))}
      </ol>
      {all > shown && (
        <p class="more">
          {count(all - Math.min(shown, ids.length))} more.{" "}
          {shown < MOST && (
            <button class="quiet" onClick={() => (queueShown.value = shown + 3 * QUEUE_PAGE)}>
              Show more
            </button>
          )}{" "}
          <a href="/jobs?state=queued,held">All that wait</a>
        </p>
      )}
    </>
  );
}

function Row({ id, place }: { id: number; place: number }) {
  const job = jobSignal(id)?.value;
  if (!job) return null;
  return (
    <li>
      <span class="place" aria-hidden="true">{job.state === "held" ? "" : place}</span>
      <div>
        <p>
          <a href={`/jobs/${id}`}>{job.name}</a> <small>{id} · {job.user} · {wants(job)}</small> <Varied of={job} />
          {job.state === "held" && <State of="held" />}
        </p>
        <p class="why"><Worded text={withoutName(job)} /></p>
      </div>
    </li>
  );
}

export function wants(job: JobView): string {
  const { gpu } = job.resources;
  if (gpu === 0) return "no GPU";
  return gpu === 1 ? "1 GPU" : `${gpu} GPUs`;
}

/** The daemon's sentence without the "job 3 (name)" that the line above says already. */
export function withoutName(job: JobView): string {
  const start = `job ${job.id} (${job.name}) `;
  return job.why.startsWith(start) ? job.why.slice(start.length) : job.why;
}

export function Ended({ ids }: { ids: number[] }) {
  const now = useNow(10) * 1000;
  return (
    <ul class="queue ended">
      {ids.map((id) => {
        const job = jobSignal(id)!.value;
        return (
          <li key={id}>
            <State of={job.state} />
            <div>
              <p>
                <a href={`/jobs/${id}`}>{job.name}</a>{" "}
                <small>
                  {id} · {job.user} · {job.ended_at && ago(job.ended_at, now)} · ran {duration(job.elapsed)}
                </small>{" "}
                <Varied of={job} />
              </p>
              {job.state !== "succeeded" && <p class="why"><Worded text={withoutName(job)} /></p>}
            </div>
          </li>
        );
      })}
    </ul>
  );
}
