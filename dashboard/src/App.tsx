import { useEffect } from "preact/hooks";
import { signedOut } from "./api/client";
import { Header } from "./parts/Header";
import { Dialogs } from "./parts/Dialog";
import { route } from "./router";
import { Compare } from "./views/Compare";
import { Gpus } from "./views/Gpus";
import { Jobs } from "./views/Jobs";
import { Job } from "./views/Job";
import { Overview } from "./views/Overview";
import { Nowhere, SignedOut } from "./views/Elsewhere";

export function App() {
  const where = route.value;
  useEffect(() => {
    document.title = title();
  });
  if (signedOut.value) return <SignedOut />;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Header />
      <main id="main" tabIndex={-1}>
        {where.view === "overview" && <Overview />}
        {where.view === "job" && <Job key={where.job} id={where.job} />}
        {where.view === "jobs" && <Jobs />}
        {where.view === "compare" && <Compare />}
        {where.view === "gpus" && <Gpus />}
        {where.view === "nowhere" && <Nowhere />}
      </main>
      <Dialogs />
    </>
  );
}

function title(): string {
  const where = route.value;
  const name = where.view === "job" ? `Job ${where.job}` : { overview: "Overview", jobs: "Jobs", compare: "Compare", gpus: "GPUs", nowhere: "Not found" }[where.view];
  return `${name} · TrainForge`;
}
