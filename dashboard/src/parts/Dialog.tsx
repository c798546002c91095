/** One question at a time, before anything is changed. The browser's own dialog: focus and Escape are its. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { sentence } from "../api/client";

export interface Question {
  title: string;
  text: ComponentChildren;
  /** What the button says that does it. */
  verb: string;
  danger?: boolean;
  /** One number to choose. */
  field?: { label: string; value: string; min: number; max: number };
  act(value: string): Promise<unknown>;
}

const asked = signal<Question | null>(null);
export const said = signal("");

export function ask(question: Question): void {
  asked.value = question;
}

/** A word that something was done: shown for a moment, and read out. */
export function say(text: string): void {
  said.value = text;
  setTimeout(() => said.value === text && (said.value = ""), 5_000);
}

export function Dialogs() {
  return (
    <>
      {asked.value && <Ask key={asked.value.title} question={asked.value} />}
      <div class="said" role="status">
        {said.value && <span>{said.value}</span>}
      </div>
    </>
  );
}

function Ask({ question }: { question: Question }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [value, setValue] = useState(question.field?.value ?? "");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  useEffect(() => dialog.current!.showModal(), []);
  const close = () => (asked.value = null);
  const act = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await question.act(value);
      close();
    } catch (trouble) {
      setProblem(sentence(trouble));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} onClose={close} aria-labelledby="question">
      <form onSubmit={(event) => void act(event)}>
        <h2 id="question">{question.title}</h2>
        <p>{question.text}</p>
        {question.field && (
          <label class="field">
            {question.field.label}
            <input
              type="number"
              min={question.field.min}
              max={question.field.max}
              value={value}
              onInput={(event) => setValue(event.currentTarget.value)}
            />
          </label>
        )}
        {problem && <p class="problem" role="alert">{problem}</p>}
        <div class="buttons">
          <button type="button" onClick={() => dialog.current!.close()}>
            Back
          </button>
          <button type="submit" class={question.danger ? "danger" : "primary"} disabled={busy}>
            {question.verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}
