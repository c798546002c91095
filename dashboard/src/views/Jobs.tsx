import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, Refused, sentence } from "../api/client";
import type { JobList, JobView } from "../api/types";
import { ago, duration, plural } from "../format";
import { Empty, metricOf, Problem, State, useNow, Varied } from "../parts/small";
import { go, search } from "../router";
import { generation, lastEvent } from "../state/store";
import { wants } from "./overview/Waiting";

const STATES = [
  ["", "all states"],
  ["running", "running"],
  ["queued,held", "waiting"],
  ["queued", "queued, in its order"],
  ["held", "held"],
  ["starting,stopping,backoff,unknown", "in between"],
  ["succeeded", "succeeded"],
  ["failed", "failed"],
  ["cancelled", "cancelled"],
] as const;
const PAGE = 100;
const MOST_COMPARED = 8;

/** All jobs, newest first and a page at a time: to look for one, or to choose some for a comparison. */
export function Jobs() {
  const asked = new URLSearchParams(search.value);
  const state = asked.get("state") ?? "";
  const name = asked.get("name") ?? "";
  const from = asked.get("from") ?? "";
  const [chosen, setChosen] = useState<number[]>([]);
  const { jobs, next, problem } = useJobs(state, name, from);
  const narrow = (change: Record<string, string>) => {
    const wanted = { state, name, ...change };
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    return `/jobs${query.size ? `?${query}` : ""}`;
  };
  const choose = (id: number, on: boolean) => setChosen(on ? [...chosen, id] : chosen.filter((one) => one !== id));
  return (
    <>
      <h1>Jobs</h1>
      <div class="controls" role="search">
        <label class="inline">
          Name or number
          <Sought value={name} seek={(text) => go(narrow({ name: text }), "replace")} />
        </label>
        <label class="inline">
          State
          <select value={state} onChange={(event) => go(narrow({ state: event.currentTarget.value }), "replace")}>
            {STATES.map(([value, text]) => (
              <option key={value} value={value}>{text}</option>
            ))}
          </select>
        </label>
        <button disabled={chosen.length < 2} class={chosen.length > 1 ? "primary" : ""} onClick={() => go(`/compare?jobs=${chosen.join(",")}`)}>
          Compare {chosen.length > 1 ? plural(chosen.length, "job") : "chosen jobs"}
        </button>
        {chosen.length > 0 && <button class="quiet" onClick={() => setChosen([])}>Choose none</button>}
      </div>
      {problem && <Problem text={problem} />}
      {jobs && jobs.length === 0 && <None state={state} name={name} from={from} />}
      {jobs && jobs.length > 0 && <Table jobs={jobs} chosen={chosen} choose={choose} />}
      {jobs && (next !== null || from) && (
        <nav class="pages" aria-label="Pages">
          {from && <a class="button" href={narrow({})}>‹ The first {PAGE}</a>}
          {next !== null && <a class="button" href={narrow({ from: next })}>The next {PAGE} ›</a>}
        </nav>
      )}
    </>
  );
}

/** What was typed is looked for when typing rests. */
function Sought({ value, seek }: { value: string; seek: (text: string) => void }) {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const node = field.current!;
    if (document.activeElement !== node) node.value = value; // somebody went back, or to another page
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const soon = (text: string) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => seek(text.trim()), 300);
  };
  return <input ref={field} type="search" defaultValue={value} placeholder="resnet, sweep-*, 12" onInput={(event) => soon(event.currentTarget.value)} />;
}

function None({ state, name, from }: { state: string; name: string; from: string }) {
  if (state || name || from) {
    return (
      <Empty>
        No job is like that. <a href="/jobs">Show all jobs</a>.
      </Empty>
    );
  }
  return (
    <Empty>
      There is no job yet. <code>tfctl submit</code> in a project's folder queues one; <code>tfctl init</code> writes a
      project that works.
    </Empty>
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
                  disabled={chosen.length >= MOST_COMPARED && !chosen.includes(job.id)}
                  onChange={(event) => choose(job.id, event.currentTarget.checked)}
                />
              </td>
              <th scope="row">
                <a href={`/jobs/${job.id}`}>{job.name}</a> <small>{job.id} · {job.user}</small> <Varied of={job} />
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

/** A page of the jobs that are sought; asked anew, at most each two seconds, as jobs move. */
function useJobs(state: string, name: string, from: string) {
  const [found, setFound] = useState<{ jobs: JobView[]; next: string | null } | null>(null);
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
    page(state, name, from, abort.signal).then(
      (list) => (setFound(list), setProblem(null)),
      (trouble: unknown) => abort.signal.aborted || setProblem(sentence(trouble)),
    );
    return () => abort.abort();
  }, [state, name, from, moved, connected]);
  useEffect(() => scrollTo(0, 0), [from]);
  return { jobs: found?.jobs ?? null, next: found?.next ?? null, problem };
}

async function page(state: string, name: string, from: string, abort: AbortSignal): Promise<{ jobs: JobView[]; next: string | null }> {
  const numbered = /^\d+$/.test(name) && !from ? get<JobView>(`/v1/jobs/${name}`, {}, abort).catch(unlessMissing) : null;
  const list = await get<JobList>("/v1/jobs", { state, name: pattern(name), limit: PAGE, cursor: from }, abort);
  const one = await numbered;
  const fits = one && (!state || state.split(",").includes(one.state)) && list.jobs.every((job) => job.id !== one.id);
  return { jobs: fits ? [one, ...list.jobs] : list.jobs, next: list.next };
}

function unlessMissing(trouble: unknown): null {
  if (trouble instanceof Refused && trouble.status === 404) return null;
  throw trouble;
}

/** Anywhere in the name, in small or capital letters; who writes a pattern gets what it says. */
function pattern(text: string): string {
  if (!text || /[*?[]/.test(text)) return text;
  const letters = [...text].map((letter) => (/[a-z]/i.test(letter) ? `[${letter.toLowerCase()}${letter.toUpperCase()}]` : letter));
  return `*${letters.join("")}*`;
}
