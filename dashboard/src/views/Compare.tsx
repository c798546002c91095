import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Comparison, JobView, LastAndBest } from "../api/types";
import { count } from "../format";
import { FIRST_CHOICE, PlotControls, type PlotChoice } from "../parts/PlotControls";
import { Empty, Problem, Section, State, Varied } from "../parts/small";
import { Chart } from "../plot/Chart";
import { withUnit, type Unit } from "../plot/axes";
import { hasBest, unitOf } from "../plot/units";
import { Curves, grouped, shared, type Axis, type Curve } from "../plot/curves";
import type { Window } from "../plot/window";
import { go, search } from "../router";
import { useAsked } from "../state/asked";
import { jobSignal, putJob, watch } from "../state/store";
import { linesOf, SHARE, useDetail, useGrowing } from "./job/Curves";

const MOST = 8; // as many as the palette has colours
const FEW = 3; // with more jobs, reported values behind the smoothed ones hide what they are behind
const EVERY = 3_000; // ms between two looks at what is new of a job
const AT_ONCE = 50; // ms in which curves of several jobs are gathered before the first is drawn
const APART = 300; // ms between two drawings of all of them

/** Several jobs over each other. Which ones is in the address: `/compare?jobs=12,14`. */
export function Compare() {
  const ids = useMemo(() => chosen(search.value), [search.value]);
  const path = ids.length ? "/v1/compare" : null;
  const { answer, problem, again } = useAsked<Comparison>(path, { jobs: ids.join(","), metrics: false }, 10);
  const held = useHeld(ids);
  return (
    <>
      <h1>Compare</h1>
      {(ids.length === 0 || answer || problem) && <Chooser ids={ids} of={answer ?? null} />}
      {ids.length === 0 && (
        <Empty>
          Add jobs by their numbers, or tick them in the <a href="/jobs">list of jobs</a>. On the command line:{" "}
          <code>tfctl compare 12 14</code>.
        </Empty>
      )}
      {problem && !answer && <Problem text={problem} retry={again} />}
      {ids.length > 0 && answer && <Overlay ids={ids} held={held} of={answer} />}
    </>
  );
}

function chosen(query: string): number[] {
  const numbers = (new URLSearchParams(query).get("jobs") ?? "").split(",").map(Number);
  return [...new Set(numbers.filter((id) => Number.isInteger(id) && id > 0))].slice(0, MOST);
}

function show(ids: number[]): void {
  go(ids.length ? `/compare?jobs=${ids.join(",")}` : "/compare", "replace");
}

const KNOB = /^environment\.env\./;
const TOLD = 2; // settings that tell one job from another

/** By what the compared jobs are told apart: settings of their environment in which they differ. */
function knobs(of: Comparison | null): Comparison["settings"] {
  return (of?.settings ?? []).filter(({ path }) => KNOB.test(path)).slice(0, TOLD);
}

function told(of: Comparison | null, id: number): string[] {
  return knobs(of).map(({ path, values }) => `${path.replace(KNOB, "")}=${values[id] ?? "–"}`);
}

function Chooser({ ids, of }: { ids: number[]; of: Comparison | null }) {
  const [text, setText] = useState("");
  const add = (event: Event) => {
    event.preventDefault();
    const more = text.split(/[\s,]+/).map(Number).filter((id) => Number.isInteger(id) && id > 0);
    if (more.length) show([...new Set([...ids, ...more])].slice(0, MOST));
    setText("");
  };
  return (
    <div class="chooser">
      <ul>
        {ids.map((id, i) => {
          const job = of?.jobs.find((one) => one.id === id);
          return (
            <li key={id}>
              <i class={`dot series-${(i % 8) + 1}`} aria-hidden="true" />
              <span>
                <a href={`/jobs/${id}`}>{job?.name ?? "job"}</a> <small>{[id, ...told(of, id)].join(" · ")}</small>
              </span>
              {job && <State of={job.state} />}
              <button class="quiet" aria-label={`Leave job ${id} out`} onClick={() => show(ids.filter((one) => one !== id))}>
                ✕
              </button>
            </li>
          );
        })}
      </ul>
      {ids.length < MOST && (
        <form onSubmit={add}>
          <label class="inline">
            Job numbers
            <input inputMode="numeric" value={text} placeholder="12, 14" onInput={(event) => setText(event.currentTarget.value)} />
          </label>
          <button type="submit">Add</button>
        </form>
      )}
    </div>
  );
}

interface Loaded {
  version: number; // another one whenever there is something else to draw
  curves: Map<string, Curve>;
  closer: Map<string, Curve> | null;
}

interface Compared {
  id: number;
  job: JobView | null; // not known yet
  short: string;
}

function Overlay({ ids, held, of }: { ids: number[]; held: Map<number, Curves>; of: Comparison }) {
  const { jobs } = of;
  const [loaded, put] = useGathered<Loaded>();
  const [choice, setChoice] = useState<PlotChoice>(FIRST_CHOICE);
  const [window, setWindow] = useState<Window | null>(null);
  const compared = ids
    .map((id): Compared => ({ id, job: jobs.find((job) => job.id === id) ?? null, short: [`job ${id}`, ...knobs(of).map(({ values }) => values[id] ?? "–")].join(" · ") }))
    .filter(({ job }) => job !== null);
  const names = new Set(compared.flatMap(({ id }) => [...(loaded[id]?.curves.keys() ?? [])]).filter((name) => !SHARE.test(name)));
  const order = grouped(names).flatMap(([, members]) => members);
  return (
    <>
      {compared.map((one) => (
        <Load key={one.id} of={one} held={held.get(one.id)!} axis={choice.axis} window={window} put={(found) => put(one.id, found)} />
      ))}
      {order.length > 0 && (
        <PlotControls
          choice={choice}
          choose={(next) => (next.axis !== choice.axis && setWindow(null), setChoice(next))}
          zoomed={window !== null}
          reset={() => setWindow(null)}
        />
      )}
      {order.length > 0 && knobs(of).length > 0 && (
        <p class="hint">Beside the number of a job: its {knobs(of).map(({ path }) => path.replace(KNOB, "")).join(" · ")}.</p>
      )}
      <div class="charts">
        {order.map((name) => (
          <Group key={name} {...{ name, compared, loaded, choice, window, setWindow }} />
        ))}
      </div>
      {compared.every(({ id }) => loaded[id]) && (
        <>
          <Settings of={of} />
          <Values ids={ids} />
        </>
      )}
    </>
  );
}

/**
 * Curves of each job, asked for at once: their numbers are in the address, and nothing else has to be known. To be
 * called after what is needed sooner is asked for, since a browser has few questions under way at a time.
 */
function useHeld(ids: number[]): Map<number, Curves> {
  const known = useRef(new Map<number, Curves>());
  const all = useMemo(() => {
    const points = shared(ids.length);
    const held = (id: number) => {
      const curves = known.current.get(id);
      return curves?.points === points ? curves : new Curves(id, 0, [], points);
    };
    known.current = new Map(ids.map((id) => [id, held(id)]));
    return known.current;
  }, [ids]);
  useEffect(() => all.forEach((curves) => curves.begin().catch(() => undefined)), [all]); // told by whoever grows them
  return all;
}

/** What comes from several at about the same time is drawn once. */
function useGathered<T>(): [Record<number, T>, (id: number, found: T) => void] {
  const [shown, setShown] = useState<Record<number, T>>({});
  const gathered = useRef<Record<number, T>>({});
  const drawn = useRef(false);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const put = (id: number, found: T) => {
    gathered.current = { ...gathered.current, [id]: found };
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      drawn.current = true;
      setShown(gathered.current);
    }, drawn.current ? APART : AT_ONCE);
  };
  return [shown, put];
}

/** Brings one job's curves; draws nothing itself, but for what went wrong. */
function Load({ of, held, axis, window, put }: LoadProps) {
  useEffect(() => watch(of.id), [of.id]);
  useEffect(() => {
    if (of.job) putJob(of.job);
  }, [of.job]);
  const { version, curves, problem, again } = useGrowing(held, jobSignal(of.id)?.value ?? of.job, EVERY);
  const closer = useDetail(held, axis, began(of.job), window);
  const told = useRef(0);
  useEffect(() => {
    if (version > 0 || problem) put({ version: ++told.current, curves, closer });
  }, [version, closer, problem]);
  return problem && version === 0 ? <Problem text={`Curves of job ${of.id}: ${problem}`} retry={again} /> : null;
}

interface LoadProps {
  of: Compared;
  held: Curves;
  axis: Axis;
  window: Window | null;
  put: (found: Loaded) => void;
}

function began(job: JobView | null): number {
  return job ? Date.parse(job.started_at ?? job.submitted_at) / 1000 : 0;
}

interface GroupProps {
  name: string;
  compared: readonly Compared[];
  loaded: Record<number, Loaded>;
  choice: PlotChoice;
  window: Window | null;
  setWindow: (window: Window | null) => void;
}

/** A job that is still being loaded has its line already, without points: its plot need not be made twice. */
function Group({ name, compared, loaded, choice, window, setWindow }: GroupProps) {
  const state = compared.map(({ id, job, short }) => `${short} ${loaded[id]?.version} ${job?.name} ${job?.started_at}`).join("|");
  const lines = useMemo(
    () =>
      compared.flatMap(({ id, job, short }, i) => {
        const title = `${id} ${job?.name ?? ""}`;
        const known = loaded[id];
        if (!known || (choice.axis === "time" && !job)) return [{ name: title, short, x: [], values: [], colour: i }];
        const curve = known.closer?.get(name) ?? known.curves.get(name);
        const drawn = curve ? linesOf(curve, title, i, choice.axis, choice.smoothing, began(job), compared.length <= FEW) : [];
        for (const line of drawn) line.short = short;
        return drawn;
      }),
    [name, state, choice.axis, choice.smoothing],
  );
  const unit = useMemo(() => unitOf(name, lines.map((line) => line.raw ?? line.values)), [name, lines]);
  return <Chart title={name} unit={unit} lines={lines} x={choice.axis === "time" ? "elapsed" : choice.axis} log={choice.log} cut={choice.cut} window={window} onWindow={setWindow} height={260} />;
}

function Settings({ of }: { of: Comparison }) {
  return (
    <Section id="settings" title="Settings that differ">
      {of.settings.length === 0 ? (
        <Empty>{of.jobs.length < 2 ? "Add a second job to see what differs." : "All settings are the same."}</Empty>
      ) : (
        <Wide label="Settings that differ" jobs={of.jobs} rows={of.settings.map((row) => [row.path, (id: string) => row.values[id] ?? "–"])} />
      )}
    </Section>
  );
}

/** Asked for by themselves, after the curves: nothing else has to wait for them. */
function Values({ ids }: { ids: number[] }) {
  const { answer: of, problem, again } = useAsked<Comparison>("/v1/compare", { jobs: ids.join(",") }, 10);
  if (problem && !of) return <Problem text={problem} retry={again} />;
  if (!of || of.metrics.length === 0) return null;
  return (
    <Section id="values" title="Last and best">
      <Wide label="Last and best values" jobs={of.jobs} rows={of.metrics.map((row) => [row.name, (id: string) => <LastBest name={row.name} of={row.values[id]} unit={unitOfRow(row)} />])} />
    </Section>
  );
}

function unitOfRow({ name, values }: Comparison["metrics"][number]): Unit {
  const known = Object.values(values).flatMap(({ last, best }) => [last, best]);
  return unitOf(name, [known.filter((value) => typeof value === "number")]);
}

function LastBest({ name, of, unit }: { name: string; of: LastAndBest | undefined; unit: Unit }) {
  if (!of) return <>–</>;
  return (
    <>
      {withUnit(of.last, unit)}
      {of.best !== null && hasBest(name) && (
        <small>
          {" "}
          best {withUnit(of.best, unit)}
          {of.best_step !== null && ` at step ${count(of.best_step)}`}
        </small>
      )}
    </>
  );
}

function Wide({ label, jobs, rows }: { label: string; jobs: readonly JobView[]; rows: [string, (id: string) => ComponentChildren][] }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={label}>
      <table>
        <thead>
          <tr>
            <th scope="col"><span class="unseen">What</span></th>
            {jobs.map((job, i) => (
              <th key={job.id} scope="col">
                <i class={`dot series-${(i % 8) + 1}`} aria-hidden="true" /> {job.id} {job.name} <Varied of={job} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              {jobs.map((job) => (
                <td key={job.id}>{value(String(job.id))}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
