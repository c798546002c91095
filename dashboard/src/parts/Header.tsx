import { useEffect, useState } from "preact/hooks";
import { send, sentence, signedOut } from "../api/client";
import { route } from "../router";
import { connection, status } from "../state/store";
import { say } from "./Dialog";
import { chosenTheme, chooseTheme, type Theme } from "../theme";

const PLACES = [
  ["/", "Overview", "overview"],
  ["/jobs", "Jobs", "jobs"],
  ["/compare", "Compare", "compare"],
  ["/gpus", "GPUs", "gpus"],
] as const;

export function Header() {
  const here = route.value.view;
  return (
    <header class="top">
      <a class="brand" href="/" aria-label="TrainForge, overview">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <path d="M5 25 12 10l5.5 8.5L22 6l6 19z" />
        </svg>
        <span>TrainForge</span>
      </a>
      <nav aria-label="Views">
        {PLACES.map(([to, name, view]) => (
          <a key={to} href={to} aria-current={here === view || (here === "job" && view === "jobs") ? "page" : undefined}>
            {name}
          </a>
        ))}
      </nav>
      <div class="top-end">
        <Connected />
        <Settings />
      </div>
    </header>
  );
}

const WORDS = { connecting: "…", live: "Live", lost: "Reconnecting…" };

function Connected() {
  const state = connection.value;
  return (
    <span class={`connected ${state}`} role="status" title={state === "lost" ? "The daemon does not answer. Nothing is lost: the page catches up when it does." : ""}>
      <i aria-hidden="true" />
      <span>{WORDS[state]}</span>
    </span>
  );
}

function Settings() {
  const [theme, setTheme] = useState<Theme>(chosenTheme());
  useEffect(() => chooseTheme(theme), [theme]);
  const user = status.value?.user;
  return (
    <>
      <label class="theme">
        <span class="unseen">Theme</span>
        <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
          <option value="system">Auto</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </label>
      <button class="quiet sign-out" title={user ? `Signed in as ${user}` : ""} onClick={() => void signOut()}>
        Sign out
      </button>
    </>
  );
}

async function signOut(): Promise<void> {
  try {
    await send("POST", "/v1/sign-out");
    signedOut.value = true;
  } catch (problem) {
    say(sentence(problem)); // still signed in, and it must not look otherwise
  }
}
