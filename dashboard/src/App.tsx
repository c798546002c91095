import { useEffect } from "preact/hooks";
import { AWAY, signedOut } from "./api/client";
import { Header } from "./parts/Header";
import { Dialogs } from "./parts/Dialog";
import { Problem } from "./parts/small";
import { route } from "./router";
import { connection, generation } from "./state/store";
import { Compare } from "./views/Compare";
import { Gpus } from "./views/Gpus";
import { Jobs } from "./views/Jobs";
import { Job } from "./views/Job";
import { Overview } from "./views/Overview";
import { Nowhere, SignedOut } from "./views/Elsewhere";

export function App() {
  const name = title();
  useEffect(() => {
    document.title = name;
  }, [name]);
  if (signedOut.value) return <SignedOut />;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Header />
      <main id="main" tabIndex={-1}>
        {generation.value > 0 ? <View /> : connection.value === "lost" && <Problem text={AWAY} />}
      </main>
      <Dialogs />
    </>
  );
}

/** None before the daemon has answered: what a view asks for must not be older than the stream of events. */
function View() {
  const where = route.value;
  if (where.view === "overview") return <Overview />;
  if (where.view === "job") return <Job key={where.job} id={where.job} />;
  if (where.view === "jobs") return <Jobs />;
  if (where.view === "compare") return <Compare />;
  if (where.view === "gpus") return <Gpus />;
  return <Nowhere />;
}

function title(): string {
  const where = route.value;
  const name = where.view === "job" ? `Job ${where.job}` : { overview: "Overview", jobs: "Jobs", compare: "Compare", gpus: "GPUs", nowhere: "Not found" }[where.view];
  return `${name} · TrainForge`;
}
