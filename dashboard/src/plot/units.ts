/** What a series is counted in, by the names that training scripts use. */

import type { Unit } from "./axes";

const PARTS = /(^|[_/.-])(acc|accuracy|top[_-]?\d|precision|recall|f1|share|efficiency|utili[sz]ation)([_/.-]|\d|$)/i;
const RATE = /(^|[_/.-])([a-z]+)_per_(?:second|sec)$/i;
const SECONDS = /(^|[_/.-])(seconds|secs)$/i;
const BYTES = /(^|[_/.-])bytes$/i;

/** `values`: all that is to be shown with it. A part of one is one only if every value is. */
export function unitOf(name: string, values: Iterable<ArrayLike<number>>): Unit {
  const rate = RATE.exec(name);
  if (rate) return `${rate[2]!.toLowerCase()}/s`;
  if (SECONDS.test(name)) return "s";
  if (BYTES.test(name)) return "B";
  return PARTS.test(name) && [...values].every(areParts) ? "part" : "";
}

const SET = /(^|[_/.-])(lr|learning_rate|momentum|weight_decay|[a-z]+_share)$/i;

/** False of what is chosen, not reached: a learning rate has no best value. */
export function hasBest(name: string): boolean {
  return !SET.test(name);
}

function areParts(values: ArrayLike<number>): boolean {
  for (let i = 0; i < values.length; i++) if (values[i]! < 0 || values[i]! > 1) return false;
  return true;
}
