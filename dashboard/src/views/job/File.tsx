import type { Checkpoints, Differences, JobView, SpecAnswer } from "../../api/types";
import { bytes, count, moment } from "../../format";
import { Empty, Problem, Section } from "../../parts/small";
import { useAsked, type Asked } from "../../state/asked";
import { yaml } from "./yaml";

/** What was asked for, how it differs from the run before, and what was saved. */
export function FileTab({ job }: { job: JobView }) {
  const spec = useAsked<SpecAnswer>(`/v1/jobs/${job.id}/spec`);
  return (
    <div class="columns">
      <JobFile asked={spec} />
      {(spec.answer || spec.problem) && (
        <div>
          <DifferencesPart job={job} />
          <CheckpointsPart job={job} />
        </div>
      )}
    </div>
  );
}

function JobFile({ asked: { answer, problem, again } }: { asked: Asked<SpecAnswer> }) {
  return (
    <Section id="spec" title="Job file" aside="as it was understood">
      {!answer && problem && <Problem text={problem} retry={again} />}
      {answer && (
        <>
          <dl class="facts">
            <div>
              <dt>commit</dt>
              <dd>{answer.git ? <code>{answer.git.commit.slice(0, 12)}{answer.git.dirty ? " and changes" : ""}</code> : "no git work tree"}</dd>
            </div>
            <div>
              <dt>{answer.workdir ? "runs in place, in" : "frozen in"}</dt>
              <dd><code>{answer.workdir ?? answer.project}</code></dd>
            </div>
          </dl>
          <pre tabIndex={0}>{yaml(answer.spec)}</pre>
        </>
      )}
    </Section>
  );
}

function DifferencesPart({ job }: { job: JobView }) {
  const { answer, problem, again } = useAsked<Differences>(`/v1/jobs/${job.id}/differences`);
  const other = answer?.with ?? null;
  return (
    <Section id="differences" title="Differences" aside={other !== null && <a href={`/jobs/${other}`}>from job {other}</a>}>
      {!answer && problem && <Problem text={problem} retry={again} />}
      {answer && other === null && <Empty>This is the first run of {job.name}.</Empty>}
      {answer && other !== null && answer.rows.length === 0 && <Empty>The settings are those of job {other}.</Empty>}
      {answer && answer.rows.length > 0 && (
        <div class="scroll" tabIndex={0} role="group" aria-label="Differences">
          <table>
            <thead>
              <tr>
                <th scope="col">Setting</th>
                <th scope="col">Here</th>
                <th scope="col">Job {other}</th>
              </tr>
            </thead>
            <tbody>
              {answer.rows.map((row) => (
                <tr key={row.path}>
                  <th scope="row"><code>{row.path}</code></th>
                  <td>{row.here ?? "–"}</td>
                  <td>{row.there ?? "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Section>
  );
}

function CheckpointsPart({ job }: { job: JobView }) {
  const { answer, problem, again } = useAsked<Checkpoints>(`/v1/jobs/${job.id}/checkpoints`, {}, job.ended_at ? undefined : 15);
  return (
    <Section id="checkpoints" title="Checkpoints">
      {!answer && problem && <Problem text={problem} retry={again} />}
      {answer && answer.checkpoints.length === 0 && (
        <Empty>
          Nothing was saved yet. <code>trainforge.Checkpointer</code> in the script saves what a retry goes on from.
        </Empty>
      )}
      {answer && answer.checkpoints.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col" class="n">Step</th>
              <th scope="col" class="n">Size</th>
              <th scope="col">Saved</th>
            </tr>
          </thead>
          <tbody>
            {[...answer.checkpoints].reverse().map((one) => (
              <tr key={one.name}>
                <th scope="row">
                  {one.name} {one.best && <span class="tag">best</span>} {!one.whole && <span class="tag bad">not whole</span>}
                </th>
                <td class="n">{count(one.step)}</td>
                <td class="n">{bytes(one.size)}</td>
                <td>{moment(one.saved_at)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}
