import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { sentence } from "../../api/client";
import type { JobView } from "../../api/types";
import { Chart } from "../../plot/Chart";
import { Curves, detail, grouped, places, POINTS, restarts, smoothed, type Axis, type Curve } from "../../plot/curves";
import type { Line } from "../../plot/align";
import type { Window } from "../../plot/moving";
import { PlotControls, type PlotChoice } from "../../parts/PlotControls";
import { Empty, Problem } from "../../parts/small";
import { isLive } from "../../state/job";
import { generation } from "../../state/store";

/** Shares of time have a place of their own, with the other figures of the machine. */
export const SHARE = /^(data|compute|communication)_share$/;

export function CurvesTab({ job }: { job: JobView }) {
  const { version, held, curves, problem, again } = useCurves(job, 0);
  const [choice, setChoice] = useState<PlotChoice>({ axis: "step", smoothing: 0.6, log: false });
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
      <p class="hint">Drag to zoom, shift-drag to move, double-click to see all of it. With the keyboard: + − ← → 0.</p>
    </>
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
  return (
    <Chart
      title={title}
      lines={lines}
      x={choice.axis === "time" ? "elapsed" : choice.axis}
      log={choice.log && curves.some((curve) => curve.value.some((value) => value > 0))}
      marks={marks}
      window={window}
      onWindow={setWindow}
    />
  );
}

/** A curve as it is drawn: smoothed, with its raw values faintly behind. */
export function linesOf(curve: Curve, name: string, colour: number, axis: Axis, smoothing: number, start: number): Line[] {
  const x = places(curve, axis, start);
  const line = { name, x, colour, odd: curve.odd };
  if (smoothing <= 0) return [{ ...line, values: curve.value }];
  return [
    { ...line, values: curve.value, faint: true },
    { ...line, values: smoothed(x, curve.value, smoothing), raw: curve.value },
  ];
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

/** The curves of one rank, growing while the job lives. `version` moves with them; 0 is not loaded yet. */
export function useCurves(job: JobView, rank: number, names: readonly string[] = [], points = POINTS) {
  const held = useMemo(() => new Curves(job.id, rank, names, points), [job.id, rank, points]);
  const [version, setVersion] = useState(0);
  const [problem, setProblem] = useState<string | null>(null);
  const [count, setCount] = useState(0);
  const progress = useRef(job.progress);
  const fresh = useRef(false);
  if (progress.current !== job.progress) {
    progress.current = job.progress;
    fresh.current = true;
  }
  const connected = generation.value;
  const live = isLive(job);
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
    void bring(held.load());
    const timer = live
      ? setInterval(() => {
          if (!fresh.current || document.hidden) return;
          fresh.current = false;
          void bring(held.more());
        }, 1_000)
      : undefined;
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [held, connected, live, job.attempt, count]);
  return { version, held, curves: held.curves, ranks: held.ranks, problem, again: () => setCount(count + 1) };
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
