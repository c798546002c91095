import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { sentence } from "../../api/client";
import type { JobView } from "../../api/types";
import { Chart } from "../../plot/Chart";
import { Curves, detail, grouped, places, POINTS, restarts, smoothed, type Axis, type Curve } from "../../plot/curves";
import type { Line } from "../../plot/align";
import { once } from "../../plot/once";
import { unitOf } from "../../plot/units";
import type { Window } from "../../plot/window";
import { FIRST_CHOICE, PlotControls, type PlotChoice } from "../../parts/PlotControls";
import { Empty, Problem } from "../../parts/small";
import { isLive } from "../../state/job";
import { generation } from "../../state/store";

/** Shares of time have a place of their own, with the other figures of the machine. */
export const SHARE = /^(data|compute|communication)_share$/;

export function CurvesTab({ job }: { job: JobView }) {
  const { version, held, curves, problem, again } = useCurves(job, 0);
  const [choice, setChoice] = useState<PlotChoice>(FIRST_CHOICE);
  const [window, setWindow] = useState<Window | null>(null);
  const start = Date.parse(job.started_at ?? job.submitted_at) / 1000;
  const marks = useMemo(() => restarts(curves.values(), choice.axis, start), [version, choice.axis, start]);
  const groups = useMemo(() => grouped([...curves.keys()].filter((name) => !SHARE.test(name))), [version]);
  const closer = useDetail(held, choice.axis, start, window);
  if (problem && curves.size === 0) return <Problem text={problem} retry={again} />;
  if (version > 0 && groups.length === 0) return <NoCurves job={job} />;
  const choose = (next: PlotChoice) => {
    if (next.axis !== choice.axis) setWindow(null);
    setChoice(next);
  };
  return (
    <>
      <PlotControls choice={choice} choose={choose} zoomed={window !== null} reset={() => setWindow(null)} />
      <div class="charts">
        {groups.map(([title, names]) => (
          <Group
            key={title}
            title={title}
            curves={names.map((name) => closer?.get(name) ?? curves.get(name)!)}
            {...{ closer, version, choice, start, marks, window, setWindow }}
          />
        ))}
      </div>
      {version > 0 && <Moving />}
    </>
  );
}

/** How to move about, in the words of what there is to point with. */
function Moving() {
  return (
    <p class="hint">
      <span class="with-fingers">Two fingers zoom, one moves or reads; tap twice to see all of it.</span>
      <span class="with-mouse">Drag to zoom, shift-drag to move, double-click to see all of it. With the keyboard: + − ← → 0.</span>
    </p>
  );
}

interface GroupProps {
  title: string;
  curves: Curve[];
  version: number;
  closer: Map<string, Curve> | null;
  choice: PlotChoice;
  start: number;
  marks: Map<number, number>;
  window: Window | null;
  setWindow: (window: Window | null) => void;
}

function Group({ title, curves, version, closer, choice, start, marks, window, setWindow }: GroupProps) {
  const lines = useMemo(
    () => curves.flatMap((curve, i) => linesOf(curve, curve.name, i, choice.axis, choice.smoothing, start)),
    [version, closer, choice.axis, choice.smoothing, start, curves.length],
  );
  const unit = useMemo(() => unitOf(title, curves.map((curve) => curve.value)), [title, version, curves.length]);
  return (
    <Chart
      title={title}
      unit={unit}
      lines={lines}
      x={choice.axis === "time" ? "elapsed" : choice.axis}
      log={choice.log && curves.some((curve) => curve.value.some((value) => value > 0))}
      cut={choice.cut}
      marks={marks}
      window={window}
      onWindow={setWindow}
    />
  );
}

/** A curve as it is drawn: smoothed, with its raw values faintly `behind`. */
export function linesOf(curve: Curve, name: string, colour: number, axis: Axis, smoothing: number, start: number, behind = true): Line[] {
  const x = places(curve, axis, start);
  const line = { name, x, colour, odd: curve.odd };
  if (smoothing <= 0) return [{ ...line, values: curve.value }];
  const values = once(() => smoothed(x, curve.value, smoothing));
  const smooth: Line = {
    ...line,
    get values() {
      return values();
    },
    raw: curve.value,
  };
  return behind ? [{ ...line, values: curve.value, faint: true }, smooth] : [smooth];
}

function NoCurves({ job }: { job: JobView }) {
  return (
    <Empty>
      {job.started_at ? "The job has reported no figures yet. " : "The job has not started. "}
      In its script, <code>trainforge.report(step=step, loss=loss)</code> makes a curve of each name; what a script writes
      with TensorBoard's SummaryWriter is shown too.
    </Empty>
  );
}

/** The curves of one rank, growing while the job lives. */
export function useCurves(job: JobView, rank: number, names: readonly string[] = []) {
  const held = useMemo(() => new Curves(job.id, rank, names, POINTS), [job.id, rank]);
  return useGrowing(held, job, 1_000);
}

/**
 * Curves that are loaded, and grow each so many milliseconds while their job (null: not known yet) reports.
 * `version` moves with them; 0 is not loaded yet.
 */
export function useGrowing(held: Curves, job: JobView | null, every: number) {
  const [version, setVersion] = useState(0);
  const [problem, setProblem] = useState<string | null>(null);
  const [count, setCount] = useState(0);
  const progress = useRef(job?.progress);
  const fresh = useRef(false);
  const begun = useRef<Curves | null>(null);
  if (progress.current !== job?.progress) {
    progress.current = job?.progress;
    fresh.current = true;
  }
  const connected = generation.value;
  const live = job !== null && isLive(job);
  // A new attempt supersedes, and what came out of order is there at the end: both mean loading anew.
  const era = useEra(job && `${live} ${job.attempt}`);
  useEffect(() => {
    let gone = false;
    const bring = async (what: Promise<void>) => {
      try {
        await what;
        if (gone) return;
        setVersion((now) => now + 1);
        setProblem(null);
      } catch (trouble) {
        if (!gone) setProblem(sentence(trouble));
      }
    };
    void bring(begun.current === held ? held.load() : held.begin());
    begun.current = held;
    const timer = setInterval(() => {
      if (!fresh.current || document.hidden) return;
      fresh.current = false;
      void bring(held.more());
    }, every);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [held, connected, era, count, every]);
  return { version, held, curves: held.curves, ranks: held.ranks, problem, again: () => setCount(count + 1) };
}

/** Counts how often a word has changed. Getting to know it is no change. */
function useEra(word: string | null): number {
  const last = useRef(word);
  const era = useRef(0);
  if (last.current !== null && word !== null && last.current !== word) era.current += 1;
  last.current = word ?? last.current;
  return era.current;
}

/** What a zoomed plot shows in place of thinned curves, once it is there. */
export function useDetail(of: Curves, axis: Axis, start: number, window: Window | null): Map<string, Curve> | null {
  const [found, setFound] = useState<{ window: Window; curves: Map<string, Curve> } | null>(null);
  useEffect(() => {
    if (!window) return setFound(null);
    let gone = false;
    const timer = setTimeout(() => {
      detail(of, axis, start, window.from, window.to).then(
        (curves) => gone || setFound(curves && { window, curves }),
        () => undefined, // the thinned curves stay
      );
    }, 150);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [of, axis, start, window?.from, window?.to]);
  if (!window || !found || window.from < found.window.from || window.to > found.window.to) return null;
  return found.curves;
}
