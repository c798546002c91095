import type { JobView } from "../api/types";
import { Problem } from "../parts/small";
import { currentTab, Tabs, type Tab } from "../parts/Tabs";
import { useJob } from "../state/job";
import { CurvesTab } from "./job/Curves";
import { EventsTab } from "./job/Events";
import { FileTab } from "./job/File";
import { Head } from "./job/Head";
import { IncidentTab } from "./job/Incident";
import { LogTab } from "./job/Log";
import { SystemTab } from "./job/System";

export function Job({ id }: { id: number }) {
  const { job, missing, problem, again } = useJob(id);
  if (missing) {
    return (
      <section class="nothing">
        <h1>There is no job {id}</h1>
        <p>
          It may have been removed. <a href="/jobs">All jobs</a> are listed there.
        </p>
      </section>
    );
  }
  if (!job) return problem ? <Problem text={problem} retry={again} /> : <p class="empty">Loading job {id}…</p>;
  const tabs = tabsOf(job);
  const tab = currentTab(tabs);
  return (
    <>
      <Head job={job} />
      <Tabs tabs={tabs} label="Parts of the job">
        {tab === "curves" && <CurvesTab key={id} job={job} />}
        {tab === "system" && <SystemTab key={id} job={job} />}
        {tab === "log" && <LogTab key={id} job={job} />}
        {tab === "events" && <EventsTab key={id} job={job} />}
        {tab === "incident" && <IncidentTab key={`${id} ${job.state} ${job.attempt}`} job={job} />}
        {tab === "file" && <FileTab key={id} job={job} />}
      </Tabs>
    </>
  );
}

/** A job that failed opens with why. */
function tabsOf(job: JobView): Tab[] {
  const incident = { id: "incident", name: job.state === "failed" ? "Why it failed" : "Why" };
  const curves = { id: "curves", name: "Curves" };
  const rest = [
    { id: "system", name: "System" },
    { id: "log", name: "Log" },
    { id: "events", name: "Events" },
    { id: "file", name: "Job file" },
  ];
  return job.state === "failed" ? [incident, curves, ...rest] : [curves, ...rest.slice(0, 3), incident, rest[3]!];
}
