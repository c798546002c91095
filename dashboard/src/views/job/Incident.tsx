import type { Incident, JobView } from "../../api/types";
import { capital, duration, figure, moment } from "../../format";
import { Empty, Problem, Section } from "../../parts/small";
import { useAsked } from "../../state/asked";
import { EventTable } from "./Events";

/** Why the job is where it is: the cause, what shows it, and what to do. */
export function IncidentTab({ job }: { job: JobView }) {
  const { answer, problem, again } = useAsked<Incident>(`/v1/jobs/${job.id}/incident`, {}, job.ended_at ? undefined : 10);
  if (!answer) return problem ? <Problem text={problem} retry={again} /> : null;
  const metrics = Object.entries(answer.last_metrics);
  return (
    <div class="incident">
      <section class="panel verdict">
        <h2>{capital(answer.cause?.replaceAll("_", " ") ?? answer.sentence)}</h2>
        {answer.cause && <p>{capital(answer.sentence)}</p>}
        {answer.rank !== null && <p>Rank {answer.rank} failed first of itself.</p>}
        {answer.advice.length > 0 && (
          <>
            <h3>What to do</h3>
            <ul class="advice">{answer.advice.map((line) => <li key={line}>{line}</li>)}</ul>
          </>
        )}
      </section>
      {answer.traceback && (
        <Section id="traceback" title={answer.rank === null ? "Traceback" : `Traceback of rank ${answer.rank}`}>
          <pre tabIndex={0}>{answer.traceback}</pre>
        </Section>
      )}
      {answer.evidence.length > 0 && (
        <Section id="evidence" title="Evidence">
          <ul class="advice">{answer.evidence.map((line, i) => <li key={i}>{line.includes("\n") ? <pre tabIndex={0}>{line}</pre> : line}</li>)}</ul>
        </Section>
      )}
      {answer.stacks.map((stack) => (
        <Section key={stack.rank} id={`stack-${stack.rank}`} title={`Where rank ${stack.rank} stood`}>
          <pre tabIndex={0}>{stack.text}</pre>
        </Section>
      ))}
      {metrics.length > 0 && (
        <Section id="last" title="Last reported">
          <dl class="facts">
            {metrics.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{typeof value === "string" ? value : figure(value)}</dd>
              </div>
            ))}
          </dl>
        </Section>
      )}
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

function Tried({ of }: { of: Incident }) {
  if (of.tried.length === 0) return <Empty>No attempt was made yet.</Empty>;
  return (
    <Section id="tried" title="What was tried">
      <div class="scroll" tabIndex={0} role="group" aria-label="Attempts">
        <table>
          <thead>
            <tr>
              <th scope="col">Attempt</th>
              <th scope="col">Started</th>
              <th scope="col">Ran for</th>
              <th scope="col">Ended by</th>
              <th scope="col">Went on from</th>
            </tr>
          </thead>
          <tbody>
            {of.tried.map((one) => (
              <tr key={one.attempt}>
                <th scope="row">{one.attempt}</th>
                <td>{moment(one.started_at)}</td>
                <td>{one.ended_at ? duration((Date.parse(one.ended_at) - Date.parse(one.started_at)) / 1000) : "running"}</td>
                <td>{one.reason ? `${one.reason.replaceAll("_", " ")}${one.message ? `: ${one.message}` : ""}` : "–"}</td>
                <td>{one.resumed_from?.split("/").at(-1) ?? "the beginning"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}
