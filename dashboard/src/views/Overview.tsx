import { status, loaded, running, waiting, ended, gpuIds, gpuProblem, gpuSignal, jobSignal } from "../state/store";
import { computed } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { GpusTimeline } from "../api/types";
import { known, Timeline } from "../parts/Timeline";
import { useAsked } from "../state/asked";
import { Empty, Section, useNow } from "../parts/small";
import { count, moment, plural } from "../format";
import { GpuCard } from "./overview/GpuCard";
import { Running } from "./overview/Running";
import { Ended, Waiting } from "./overview/Waiting";

/** The machine at a glance: what runs, what waits and why, what is wasted. Nothing stands where it would be pushed away. */
export function Overview() {
  const day = useLastDay();
  return (
    <>
      <h1 class="unseen">Overview</h1>
      <Headline />
      <Gpus />
      {loaded.value && day.known && (
        <>
          <RunningSection />
          {day.answer && <LastDay of={day.answer} />}
          <div class="columns">
            <WaitingSection />
            <EndedSection />
          </div>
        </>
      )}
    </>
  );
}

const standing = (...states: string[]) =>
  computed(() => gpuIds.value.filter((uuid) => states.includes(gpuSignal(uuid)!.value.state)).length);
const inUse = standing("leased", "releasing", "foreign");
/** By nobody used, and not on offer either. */
const keptBack = standing("drained", "set_aside", "excluded");

function Headline() {
  const now = status.value;
  if (!now || (now.gpus_total > 0 && gpuIds.value.length === 0)) return <div class="headline loading" aria-hidden="true" />;
  const { jobs } = now;
  const active = jobs.running + jobs.starting + jobs.stopping;
  return (
    <div class="headline">
      <Figure value={`${inUse.value} / ${now.gpus_total}`} of="GPUs in use" />
      {keptBack.value > 0 && <Figure value={count(keptBack.value)} of={keptBack.value === 1 ? "GPU kept back" : "GPUs kept back"} />}
      <Figure value={count(active)} of={active === 1 ? "job runs" : "jobs run"} />
      <Figure value={count(jobs.queued + jobs.backoff)} of={jobs.queued + jobs.backoff === 1 ? "job waits" : "jobs wait"} />
      {jobs.held > 0 && <Figure value={count(jobs.held)} of="held" />}
      {jobs.unknown > 0 && <Figure value={count(jobs.unknown)} of="being found out" />}
      <Figure value={count(jobs.failed)} of="failed" quiet />
      <Figure value={count(jobs.succeeded)} of="succeeded" quiet />
      {now.simulated && <span class="note">simulated GPUs</span>}
    </div>
  );
}

function Figure({ value, of, quiet }: { value: string; of: string; quiet?: boolean }) {
  return (
    <p class={quiet ? "figure quiet" : "figure"}>
      <b>{value}</b> {of}
    </p>
  );
}

function Gpus() {
  const ids = gpuIds.value;
  return (
    <Section id="gpus" title="GPUs" flat aside={<span>last ten minutes</span>}>
      {loaded.value && ids.length === 0 ? (
        <Empty>
          {gpuProblem.value ?? "This machine has no GPU."} Jobs with <code>gpu: 0</code> run all the same;{" "}
          <code>tfctl doctor</code> says what is missing.
        </Empty>
      ) : (
        <div class="gpus">
          {ids.map((uuid) => (
            <GpuCard key={uuid} uuid={uuid} />
          ))}
        </div>
      )}
    </Section>
  );
}

/** Asked for by the minute; without an answer (a new daemon) there is nothing to say. */
function useLastDay() {
  const since = useMemo(() => Math.floor(Date.now() / 1000 - 86_400), [Math.floor(useNow(60) / 60)]);
  const { answer, problem } = useAsked<GpusTimeline>("/v1/gpus/timeline", { since });
  return { answer: answer && answer.gpus.length > 0 ? answer : null, known: answer !== null || problem !== null };
}

function LastDay({ of }: { of: GpusTimeline }) {
  const shown = known(of);
  return (
    <Section id="day" title="The last day" aside={`who had each GPU; what is empty was idle${shown.from > of.from ? `; known since ${moment(shown.from)}` : ""}`}>
      <Timeline of={shown} />
    </Section>
  );
}

function RunningSection() {
  const ids = running.value;
  return (
    <Section id="running" title="Running" aside={ids.length > 0 && plural(ids.length, "job")}>
      {ids.length > 0 ? (
        <Running ids={ids} />
      ) : (
        loaded.value && (
          <Empty>
            Nothing runs. Start a job with <code>tfctl submit</code> in a project's folder; <code>tfctl init</code> writes
            one that works.
          </Empty>
        )
      )}
    </Section>
  );
}

function WaitingSection() {
  const ids = waiting.value;
  const all = (status.value?.jobs.queued ?? 0) + (status.value?.jobs.held ?? 0);
  return (
    <Section id="waiting" title="Queue" aside={all > 0 && plural(all, "job")}>
      {ids.length > 0 ? (
        <Waiting ids={ids} all={all} />
      ) : (
        loaded.value && <Empty>Nothing waits: the next job that fits starts at once.</Empty>
      )}
    </Section>
  );
}

function EndedSection() {
  const ids = ended.value.filter((id) => jobSignal(id));
  return (
    <Section id="ended" title="Lately ended" aside={ids.length > 0 && <a href="/jobs">all jobs</a>}>
      {ids.length > 0 ? <Ended ids={ids} /> : loaded.value && <Empty>No job has ended yet.</Empty>}
    </Section>
  );
}
