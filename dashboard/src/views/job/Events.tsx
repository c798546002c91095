import { effect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, sentence } from "../../api/client";
import type { EventList, EventView, JobView } from "../../api/types";
import { moment } from "../../format";
import { Empty, Problem } from "../../parts/small";
import { Worded } from "../../parts/Worded";
import { generation, lastEvent } from "../../state/store";

const MOST = 2_000;

export function EventsTab({ job }: { job: JobView }) {
  const [events, setEvents] = useState<EventView[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const connected = generation.value;
  useEffect(() => {
    let gone = false;
    void all(job.id).then(
      (found) => gone || (setEvents(found), setProblem(null)),
      (trouble: unknown) => gone || setProblem(sentence(trouble)),
    );
    const stop = effect(() => {
      const event = lastEvent.value;
      if (event?.job === job.id) setEvents((known) => (known && (known.at(-1)?.id ?? 0) < event.id ? [...known, event] : known));
    });
    return () => {
      gone = true;
      stop();
    };
  }, [job.id, connected]);
  if (!events) return problem ? <Problem text={problem} /> : null;
  if (events.length === 0) return <Empty>Nothing has happened to this job yet.</Empty>;
  return <EventTable events={events} />;
}

async function all(job: number): Promise<EventView[]> {
  const found: EventView[] = [];
  for (let after: number | null = 0; after !== null && found.length < MOST; ) {
    const page: EventList = await get<EventList>(`/v1/jobs/${job}/events`, { after, limit: 1000 });
    found.push(...page.events);
    after = page.next;
  }
  return found;
}

/** Newest first. */
export function EventTable({ events }: { events: readonly EventView[] }) {
  return (
    <div class="panel">
      <table class="events">
        <thead>
          <tr>
            <th scope="col">When</th>
            <th scope="col">What</th>
          </tr>
        </thead>
        <tbody>
          {[...events].reverse().map((event) => (
            <tr key={event.id}>
              <td class="when">
                <time dateTime={event.time}>{moment(event.time)}</time>
              </td>
              <td>
                <Worded text={event.message} /> <small>{event.type.replaceAll("_", " ")}</small>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
