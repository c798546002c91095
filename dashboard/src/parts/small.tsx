/** The small parts that every view is put together from. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { JobState, JobView } from "../api/types";
import { figure, percent } from "../format";

const GLYPHS: Record<JobState, string> = {
  queued: "○", held: "❙❙", starting: "◔", running: "●", stopping: "◑", backoff: "↻",
  unknown: "?", succeeded: "✓", failed: "✕", cancelled: "–",
};

export function State({ of }: { of: JobState }) {
  return (
    <span class={`state ${of}`}>
      <b aria-hidden="true">{GLYPHS[of]}</b>
      {of}
    </span>
  );
}

export function Bar({ value, label, kind = "" }: { value: number | null; label: string; kind?: string }) {
  const part = value === null ? 0 : Math.min(1, Math.max(0, value));
  return (
    <span class={`bar ${kind}`} role="img" aria-label={label}>
      <i style={{ width: `${(100 * part).toFixed(2)}%` }} />
    </span>
  );
}

export function Section({ title, aside, children, id, flat }: {
  title: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
  id: string;
  flat?: boolean;
}) {
  return (
    <section class={flat ? "block" : "block panel"} aria-labelledby={id}>
      <div class="block-head">
        <h2 id={id}>{title}</h2>
        {aside !== undefined && <div class="aside">{aside}</div>}
      </div>
      {children}
    </section>
  );
}

const LONGEST_LABEL = 90; // characters in a list

/** What tells a job from the others of its sweep, which have its name. */
export function Varied({ of: { label } }: { of: JobView }) {
  if (!label) return null;
  return <span class="varied" title={label}>{label.length > LONGEST_LABEL ? `${label.slice(0, LONGEST_LABEL)}…` : label}</span>;
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function Problem({ text, retry }: { text: string; retry?: () => void }) {
  return (
    <div class="problem" role="alert">
      <span>{text}</span>
      {retry && <button onClick={retry}>Try again</button>}
    </div>
  );
}

/** Seconds since 1970, renewed each so many seconds: for ages and times that are left. */
export function useNow(every = 1): number {
  const [now, setNow] = useState(Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setNow(Date.now() / 1000), every * 1000);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/** The figure of a job that says how good it is: by the names that training scripts use. */
export function metricOf(job: JobView, kind: "loss" | "accuracy"): { name: string; text: string } | null {
  const metrics = job.progress?.metrics ?? {};
  const names = Object.keys(metrics);
  const wanted = kind === "loss" ? ["loss", "train_loss", "train/loss"] : ["val_accuracy", "val/accuracy", "accuracy", "val_acc", "acc"];
  const name = wanted.find((one) => one in metrics) ?? names.find((one) => one.toLowerCase().includes(kind === "loss" ? "loss" : "acc"));
  if (name === undefined) return null;
  const value = metrics[name];
  if (value === null || value === undefined) return { name, text: "NaN" };
  return { name, text: kind === "accuracy" && value >= 0 && value <= 1 ? percent(value, 1) : figure(value) };
}

/** "epoch 45 / 200", "step 4,500", or null where nothing was reported. */
export function position(job: JobView): string | null {
  const progress = job.progress;
  if (!progress) return null;
  const whole = (value: number) => value.toLocaleString("en", { maximumFractionDigits: 1 });
  if (progress.epoch !== null) return `epoch ${whole(progress.epoch)}${progress.epochs !== null ? ` / ${whole(progress.epochs)}` : ""}`;
  if (progress.step !== null) return `step ${whole(progress.step)}${progress.steps !== null ? ` / ${whole(progress.steps)}` : ""}`;
  return progress.phase;
}
