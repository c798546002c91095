/** Where the page is. Links are plain links; a click on one of ours changes the view without a reload. */

import { computed, signal } from "@preact/signals";

export const path = signal(location.pathname);
export const search = signal(location.search);
export const hash = signal(location.hash);

export const route = computed(() => {
  const job = /^\/jobs\/(\d+)$/.exec(path.value);
  if (job) return { view: "job" as const, job: Number(job[1]) };
  if (path.value === "/jobs") return { view: "jobs" as const };
  if (path.value === "/compare") return { view: "compare" as const };
  if (path.value === "/gpus") return { view: "gpus" as const };
  return path.value === "/" ? { view: "overview" as const } : { view: "nowhere" as const };
});

export function go(to: string, how: "push" | "replace" = "push"): void {
  if (how === "push") history.pushState(null, "", to);
  else history.replaceState(null, "", to);
  read();
}

function read(): void {
  const moved = path.value !== location.pathname;
  path.value = location.pathname;
  search.value = location.search;
  hash.value = location.hash;
  if (moved) {
    scrollTo(0, 0);
    document.getElementById("main")?.focus({ preventScroll: true });
  }
}

export function follow(): void {
  addEventListener("popstate", read);
  addEventListener("hashchange", read);
  document.addEventListener("click", (click) => {
    if (click.defaultPrevented || click.button !== 0 || click.metaKey || click.ctrlKey || click.shiftKey) return;
    const link = (click.target as Element).closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname.startsWith("/v1/")) return;
    click.preventDefault();
    if (link.pathname === location.pathname && link.hash === "#main") document.getElementById("main")?.focus();
    else go(link.href);
  });
}
