import { effect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, sentence } from "../api/client";
import type { JobList, JobView } from "../api/types";
import { ago, duration, plural } from "../format";
import { Empty, metricOf, Problem, State, useNow } from "../parts/small";
import { go, search } from "../router";
import { generation, lastEvent } from "../state/store";
import { wants } from "./overview/Waiting";

const STATES = [
  ["", "all states"],
  ["running", "running"],
  ["queued", "queued"],
  ["held", "held"],
  ["starting,stopping,backoff,unknown", "in between"],
  ["succeeded", "succeeded"],
  ["failed", "failed"],
  ["cancelled", "cancelled"],
] as const;
const PAGE = 50;

/** All jobs, newest first, to look for one or to choose some for a comparison. */
export function Jobs() {
  const asked = new URLSearchParams(search.value);
  const state = asked.get("state") ?? "";
  const name = asked.get("name") ?? "";
  const [chosen, setChosen] = useState<number[]>([]);
  const { jobs, more, problem } = useJobs(state, name);
  const narrow = (key: string, value: string) => {
    const next = new URLSearchParams(search.value);
    if (value) next.set(key, value);
    else next.delete(key);
    go(`/jobs${next.size ? `?${next}` : ""}`, "replace");
  };
  const choose = (id: number, on: boolean) => setChosen(on ? [...chosen, id] : chosen.filter((one) => one !== id));
  return (
    <>
      <h1>Jobs</h1>
      <div class="controls">
        <label class="inline">
          Name
          <input
            type="search"
            defaultValue={name}
            placeholder="or a pattern, like sweep-*"
            onChange={(event) => narrow("name", event.currentTarget.value.trim())}
          />
        </label>
        <label class="inline">
          State
          <select value={state} onChange={(event) => narrow("state", event.currentTarget.value)}>
            {STATES.map(([value, text]) => (
              <option key={value} value={value}>{text}</option>
            ))}
          </select>
        </label>
        <button disabled={chosen.length < 2} class={chosen.length > 1 ? "primary" : ""} onClick={() => go(`/compare?jobs=${chosen.join(",")}`)}>
          Compare {chosen.length > 1 ? plural(chosen.length, "job") : "chosen jobs"}
        </button>
      </div>
      {problem && <Problem text={problem} />}
      {jobs && jobs.length === 0 && (
        <Empty>
          {state || name ? "No job is like that. Widen the search." : "There is no job yet."}{" "}
          {!state && !name && (
            <>
              <code>tfctl submit</code> queues one.
            </>
          )}
        </Empty>
      )}
      {jobs && jobs.length > 0 && <Table jobs={jobs} chosen={chosen} choose={choose} />}
      {more && (
        <button class="more" onClick={more}>
          Show more
        </button>
      )}
    </>
  );
}

function Table({ jobs, chosen, choose }: { jobs: JobView[]; chosen: number[]; choose: (id: number, on: boolean) => void }) {
  const now = useNow(15) * 1000;
  return (
    <div class="panel">
      <table class="jobs all">
        <thead>
          <tr>
            <th scope="col"><span class="unseen">Choose</span></th>
            <th scope="col">Job</th>
            <th scope="col">State</th>
            <th scope="col">Asked for</th>
            <th scope="col" class="n">Loss</th>
            <th scope="col" class="n">Accuracy</th>
            <th scope="col" class="n">Ran for</th>
            <th scope="col" class="n">Submitted</th>
          </tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <tr key={job.id}>
              <td class="choose">
                <input
                  type="checkbox"
                  aria-label={`Compare job ${job.id}, ${job.name}`}
                  checked={chosen.includes(job.id)}
                  onChange={(event) => choose(job.id, event.currentTarget.checked)}
                />
              </td>
              <th scope="row">
                <a href={`/jobs/${job.id}`}>{job.name}</a> <small>{job.id} · {job.user}</small>
              </th>
              <td title={job.why}><State of={job.state} /></td>
              <td data-label="asked for">{wants(job)}</td>
              <Cell label="loss" text={metricOf(job, "loss")?.text} />
              <Cell label="accuracy" text={metricOf(job, "accuracy")?.text} />
              <Cell label="ran for" text={job.started_at ? duration(job.elapsed) : undefined} />
              <Cell label="submitted" text={ago(job.submitted_at, now)} />
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cell({ label, text }: { label: string; text: string | undefined }) {
  return (
    <td class={text === undefined ? "n nothing-known" : "n"} data-label={label}>
      {text ?? "–"}
    </td>
  );
}

/** The first page and those that were asked for beyond it; asked anew, at most each two seconds, as jobs move. */
function useJobs(state: string, name: string) {
  const [jobs, setJobs] = useState<JobView[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const [limit, setLimit] = useState(PAGE);
  const [problem, setProblem] = useState<string | null>(null);
  const [moved, setMoved] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = effect(() => {
      if (!lastEvent.value || timer !== undefined) return;
      timer = setTimeout(() => {
        timer = undefined;
        setMoved((count) => count + 1);
      }, 2_000);
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, []);
  const connected = generation.value;
  useEffect(() => {
    const abort = new AbortController();
    get<JobList>("/v1/jobs", { state, name, limit: Math.min(limit, 1000) }, abort.signal).then(
      (list) => {
        setJobs([...list.jobs]);
        setNext(list.next);
        setProblem(null);
      },
      (trouble: unknown) => abort.signal.aborted || setProblem(sentence(trouble)),
    );
    return () => abort.abort();
  }, [state, name, limit, moved, connected]);
  return { jobs, problem, more: next && limit < 1000 ? () => setLimit(limit + 4 * PAGE) : null };
}
