/** One answer of the daemon, for a view: loaded, reloaded after each gap of the stream, and on demand. */

import { useEffect, useRef, useState } from "preact/hooks";
import { get, sentence, type Query } from "../api/client";
import { generation } from "./store";

export interface Asked<T> {
  answer: T | null;
  problem: string | null;
  again: () => void;
}

/** `path` null asks nothing; while only the query moves, the last answer stays. `every`: seconds between two askings, while the page is seen. */
export function useAsked<T>(path: string | null, query: Query = {}, every?: number): Asked<T> {
  const [answer, setAnswer] = useState<T | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [count, setCount] = useState(0);
  const key = path === null ? "" : path + JSON.stringify(query);
  const shown = useRef(path);
  const connected = generation.value;
  useEffect(() => {
    if (path === null) return undefined;
    const abort = new AbortController();
    if (shown.current !== path) {
      shown.current = path;
      setAnswer(null);
    }
    get<T>(path, query, abort.signal).then(
      (found) => {
        setAnswer(found);
        setProblem(null);
      },
      (trouble: unknown) => abort.signal.aborted || setProblem(sentence(trouble)),
    );
    return () => abort.abort();
  }, [key, connected, count]);
  useEffect(() => {
    if (!every) return undefined;
    const timer = setInterval(() => document.hidden || setCount((now) => now + 1), every * 1000);
    return () => clearInterval(timer);
  }, [every]);
  return { answer, problem, again: () => setCount((now) => now + 1) };
}
