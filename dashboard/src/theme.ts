/** Light or dark: the system's, unless one is chosen here. What is drawn on a canvas watches `dark`. */

import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

export const dark = signal(root.dataset.theme === "dark");

export function chosenTheme(): Theme {
  try {
    const chosen = localStorage.getItem("theme");
    return chosen === "light" || chosen === "dark" ? chosen : "system";
  } catch {
    return "system";
  }
}

export function chooseTheme(theme: Theme): void {
  try {
    if (theme === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme);
  } catch {
    // Storage is off: the choice holds until the page is closed.
  }
  apply(theme);
}

system.addEventListener("change", () => apply(chosenTheme()));

function apply(theme: Theme): void {
  const isDark = theme === "dark" || (theme === "system" && system.matches);
  root.dataset.theme = isDark ? "dark" : "light";
  dark.value = isDark;
}

/** The value of one of the style sheet's colours. */
export function colour(name: string): string {
  return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
}

export const SERIES = 8;

export function seriesColour(index: number): string {
  return colour(`series-${(index % SERIES) + 1}`);
}
