import { effect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, sentence } from "../../api/client";
import type { EventList, EventView, JobView } from "../../api/types";
import { moment, plural } from "../../format";
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

/** The word for what happened, where the sentence does not begin with it. */
function Kind({ of }: { of: EventView }) {
  const words = of.type.replaceAll("_", " ");
  return of.message.replace(/ \d+/, "").startsWith(words) ? null : <small>{words}</small>;
}

interface Folded {
  event: EventView;
  before: { number: number; since: string } | null;
}

/** Newest first. Of checkpoints that were saved one after the other, the last. */
function folded(events: readonly EventView[]): Folded[] {
  const found: Folded[] = [];
  for (const event of [...events].reverse()) {
    const last = found.at(-1);
    if (event.type === "checkpoint_saved" && last?.event.type === event.type) {
      last.before = { number: (last.before?.number ?? 0) + 1, since: event.time };
    } else found.push({ event, before: null });
  }
  return found;
}

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
          {folded(events).map(({ event, before }) => (
            <tr key={event.id}>
              <td class="when">
                <time dateTime={event.time}>{moment(event.time)}</time>
              </td>
              <td>
                <Worded text={event.message} />
                {before && `, and ${plural(before.number, "other")} since ${moment(before.since)}`}{" "}
                <Kind of={event} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
