import { useLayoutEffect, useRef } from "preact/hooks";
import type { Incident, JobView, Progress } from "../../api/types";
import { ago, count, duration, moment, range } from "../../format";
import { Empty, Problem, Section } from "../../parts/small";
import { Worded } from "../../parts/Worded";
import { withUnit } from "../../plot/axes";
import { unitOf } from "../../plot/units";
import { useAsked } from "../../state/asked";
import { isLive } from "../../state/job";
import { causeTitle, stateTitle } from "./causes";
import { EventTable } from "./Events";

/**
 * Why the job is where it is: the cause, what shows it, and what to do. The daemon's sentence stands above all tabs,
 * in the head; what it says is not said again here.
 */
export function IncidentTab({ job }: { job: JobView }) {
  const { answer, problem, again } = useAsked<Incident>(`/v1/jobs/${job.id}/incident`, {}, job.ended_at ? undefined : 10);
  if (!answer) return problem ? <Problem text={problem} retry={again} /> : null;
  return (
    <div class="incident">
      <Verdict of={answer} job={job} />
      {answer.traceback && (
        <Section id="traceback" title={answer.rank === null ? "Traceback" : `Traceback of rank ${answer.rank}`}>
          <pre tabIndex={0}>{answer.traceback}</pre>
        </Section>
      )}
      <Evidence of={answer} />
      {answer.stacks.map((stack) => (
        <Section key={stack.rank} id={`stack-${stack.rank}`} title={`Where rank ${stack.rank} stood`}>
          <pre tabIndex={0}>{stack.text}</pre>
        </Section>
      ))}
      <LastReported of={answer} />
      <Tried of={answer} />
      {answer.events.length > 0 && (
        <details>
          <summary>Events around it</summary>
          <EventTable events={answer.events} />
        </details>
      )}
    </div>
  );
}

function Verdict({ of, job }: { of: Incident; job: JobView }) {
  const over = of.tried.findLast((one) => one.ended_at !== null);
  const failed = of.state === "failed";
  const before = !failed && of.cause !== null && of.cause !== "succeeded" && of.cause !== of.state;
  return (
    <section class="panel verdict">
      <h2>{failed && of.cause ? causeTitle(of.cause) : stateTitle(of.state)}</h2>
      {before && over && (
        <p>
          Attempt {over.attempt} ended before: {causeTitle(of.cause!).toLowerCase()}.
        </p>
      )}
      {of.rank !== null && <p>Rank {of.rank} failed first of itself; others ended after it, or because of it.</p>}
      {of.last_progress && <p>{reached(of.last_progress, isLive(job) ? null : (over?.ended_at ?? null), isLive(job))}</p>}
      {of.advice.length > 0 && (
        <>
          <h3>What to do</h3>
          <ul class="advice">{of.advice.map((line) => <li key={line}><Worded text={line} /></li>)}</ul>
        </>
      )}
    </section>
  );
}

/** How far it had come, and when it said so last. */
function reached(progress: Progress, ended: string | null, live: boolean): string {
  const parts = [
    progress.epoch !== null && `epoch ${count(progress.epoch)}${range(progress.epochs)}`,
    progress.step !== null && `step ${count(progress.step)}${range(progress.steps)}`,
    progress.phase !== null && `the phase “${progress.phase}”`,
  ].filter(Boolean);
  if (parts.length === 0) return live ? "It has reported no progress yet." : "It had reported no progress.";
  const where = `It ${live ? "has" : "had"} come to ${parts.join(", ")}`;
  if (progress.time === null) return `${where}.`;
  if (live) return `${where}, and said so ${ago(progress.time)}.`;
  const silent = ended === null ? 0 : (Date.parse(ended) - Date.parse(progress.time)) / 1000;
  return `${where}; it last said so at ${moment(progress.time)}${silent >= 1 ? `, ${duration(silent)} before it ended` : ""}.`;
}

/** What its last attempt left, but for what the head says. */
function Evidence({ of }: { of: Incident }) {
  const left = of.evidence.filter((line) => !of.sentence.includes(line));
  if (left.length === 0) return null;
  const lines = left.filter((line) => !line.includes("\n"));
  const texts = left.filter((line) => line.includes("\n"));
  return (
    <Section id="evidence" title="Evidence" aside={texts.length > 0 && "the end of its output"}>
      {lines.length > 0 && <ul class="advice">{lines.map((line) => <li key={line}><Worded text={line} /></li>)}</ul>}
      {texts.map((text) => <End key={text} of={text} />)}
    </Section>
  );
}

/** Its end first: there it says why. */
function End({ of }: { of: string }) {
  const box = useRef<HTMLPreElement>(null);
  useLayoutEffect(() => {
    box.current!.scrollTop = box.current!.scrollHeight;
  }, [of]);
  return <pre ref={box} class="end" tabIndex={0}>{of}</pre>;
}

function LastReported({ of }: { of: Incident }) {
  const metrics = Object.entries(of.last_metrics);
  if (metrics.length === 0) return null;
  return (
    <Section id="last" title="Last reported" aside={of.last_progress?.time && moment(of.last_progress.time)}>
      <dl class="facts">
        {metrics.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{withUnit(value, typeof value === "number" ? unitOf(name, [[value]]) : "")}</dd>
          </div>
        ))}
      </dl>
    </Section>
  );
}

function Tried({ of }: { of: Incident }) {
  if (of.tried.length === 0) return <Empty>No attempt has been made{of.state === "cancelled" || of.state === "failed" ? "" : " yet"}.</Empty>;
  return (
    <Section id="tried" title="What was tried">
      <div class="scroll" tabIndex={0} role="group" aria-label="Attempts">
        <table class="tried">
          <thead>
            <tr>
              <th scope="col">Attempt</th>
              <th scope="col">Started</th>
              <th scope="col">Ran for</th>
              <th scope="col">How it ended, and what was done</th>
              <th scope="col">Went on from</th>
            </tr>
          </thead>
          <tbody>
            {of.tried.map((one) => (
              <tr key={one.attempt}>
                <th scope="row">{one.attempt}</th>
                <td data-label="started">{moment(one.started_at)}</td>
                <td data-label="ran for">{one.ended_at ? duration((Date.parse(one.ended_at) - Date.parse(one.started_at)) / 1000) : "runs"}</td>
                <td class="how">
                  {one.reason ? causeTitle(one.reason) : "–"}
                  {one.message && !of.sentence.includes(one.message) && <>: <Worded text={one.message} /></>}
                  {one.followed && <p class="followed"><Worded text={one.followed} /></p>}
                </td>
                <td data-label="from">{one.resumed_from?.split("/").at(-1) ?? "the beginning"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}
