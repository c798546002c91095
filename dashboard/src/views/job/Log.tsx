import { useEffect, useRef, useState } from "preact/hooks";
import { address, ask, get, sentence } from "../../api/client";
import type { FoundLines, JobView } from "../../api/types";
import { Empty, Problem } from "../../parts/small";
import { isLive } from "../../state/job";
import { awake, generation } from "../../state/store";
import { Lines } from "./lines";
import { VirtualLines } from "./VirtualLines";

const TAIL = 5_000;

export function LogTab({ job }: { job: JobView }) {
  const [rank, setRank] = useState("");
  const [attempt, setAttempt] = useState("latest");
  const [sought, setSought] = useState("");
  const ranks = job.attempts?.at(-1)?.ranks.map((one) => one.rank) ?? [];
  const count = Math.max(ranks.length, job.gpu_indices.length);
  return (
    <>
      <div class="controls">
        <label class="inline">
          Search
          <input type="search" value={sought} placeholder="in the whole output" onInput={(event) => setSought(event.currentTarget.value)} />
        </label>
        {count > 1 && (
          <label class="inline">
            Rank
            <select value={rank} onChange={(event) => setRank(event.currentTarget.value)}>
              <option value="">all</option>
              {Array.from({ length: count }, (_, i) => (
                <option key={i} value={i}>{i}</option>
              ))}
            </select>
          </label>
        )}
        {job.attempt > 1 && (
          <label class="inline">
            Attempt
            <select value={attempt} onChange={(event) => setAttempt(event.currentTarget.value)}>
              <option value="latest">the latest</option>
              {Array.from({ length: job.attempt }, (_, i) => (
                <option key={i} value={i + 1}>{i + 1}</option>
              ))}
              <option value="all">all</option>
            </select>
          </label>
        )}
        <a class="button" href={address(`/v1/jobs/${job.id}/logs`, { attempt, rank })} download={`job-${job.id}.log`}>
          Download
        </a>
      </div>
      {sought ? <Found job={job} {...{ rank, attempt, sought }} /> : <Output key={`${rank} ${attempt} ${job.attempt}`} job={job} {...{ rank, attempt }} />}
    </>
  );
}

function Output({ job, rank, attempt }: { job: JobView; rank: string; attempt: string }) {
  const [lines, setLines] = useState<string[] | null>(null);
  const [dropped, setDropped] = useState(0);
  const [problem, setProblem] = useState<string | null>(null);
  const follow = useRef(true);
  const connected = generation.value;
  const live = isLive(job) && attempt === "latest";
  const seen = awake.value;
  useEffect(() => {
    if (!seen) return undefined;
    const abort = new AbortController();
    const kept = new Lines();
    let waiting = 0;
    const show = () => {
      waiting = 0;
      setLines([...kept.shown]);
      setDropped(kept.dropped);
    };
    const read = async () => {
      const path = address(`/v1/jobs/${job.id}/logs`, { tail: TAIL, rank, attempt, follow: live || null });
      const answer = await ask(path, { signal: abort.signal });
      const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
      setProblem(null);
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        kept.add(piece.value);
        waiting ||= window.setTimeout(show, 100);
      }
      show();
    };
    read().catch((trouble: unknown) => abort.signal.aborted || setProblem(sentence(trouble)));
    return () => {
      abort.abort();
      clearTimeout(waiting);
    };
  }, [job.id, rank, attempt, live, connected, seen]);
  if (!lines) return problem ? <Problem text={problem} /> : null;
  if (lines.length === 0) return <Empty>{job.started_at ? "The job has written nothing yet." : "The job has not started: its output will be here."}</Empty>;
  return <VirtualLines lines={lines} dropped={dropped} follow={follow} label={`Output of job ${job.id}`} />;
}

function Found({ job, rank, attempt, sought }: { job: JobView; rank: string; attempt: string; sought: string }) {
  const [found, setFound] = useState<FoundLines | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      get<FoundLines>(`/v1/jobs/${job.id}/logs`, { search: sought, rank, attempt, limit: 500 }, abort.signal).then(
        (answer) => (setFound(answer), setProblem(null)),
        (trouble: unknown) => abort.signal.aborted || setProblem(sentence(trouble)),
      );
    }, 200);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [job.id, rank, attempt, sought]);
  if (problem) return <Problem text={problem} />;
  if (!found) return null;
  return (
    <>
      <p class="hint" role="status">
        {found.lines.length === 0 ? `No line contains “${sought}”.` : `${found.more ? "The first " : ""}${found.lines.length} ${found.lines.length === 1 ? "line" : "lines"} with “${sought}”`}
      </p>
      {found.lines.length > 0 && (
        <ol class="log found" tabIndex={0} aria-label="Lines found">
          {found.lines.map((line) => (
            <li key={`${line.attempt} ${line.number}`}>
              <span class="number">{line.number}</span>
              <Marked text={line.text} sought={sought} />
            </li>
          ))}
        </ol>
      )}
    </>
  );
}

/** As text, never as HTML. */
function Marked({ text, sought }: { text: string; sought: string }) {
  const at = text.toLowerCase().indexOf(sought.toLowerCase());
  if (at < 0) return <span>{text}</span>;
  return (
    <span>
      {text.slice(0, at)}
      <mark>{text.slice(at, at + sought.length)}</mark>
      {text.slice(at + sought.length)}
    </span>
  );
}
