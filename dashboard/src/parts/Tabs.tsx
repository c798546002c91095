/** Tabs by the hash of the address, so that a tab can be linked to. Arrow keys move between them. */

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { go, hash, path, search } from "../router";

export interface Tab {
  id: string;
  name: ComponentChildren;
}

export function currentTab(tabs: Tab[]): string {
  const wanted = hash.value.slice(1);
  return tabs.some((tab) => tab.id === wanted) ? wanted : tabs[0]!.id;
}

export function Tabs({ tabs, label, children }: { tabs: Tab[]; label: string; children: ComponentChildren }) {
  const current = currentTab(tabs);
  const open = (id: string) => go(`${path.value}${search.value}#${id}`, "replace");
  const move = (event: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const place = (tabs.findIndex((tab) => tab.id === current) + step + tabs.length) % tabs.length;
    open(tabs[place]!.id);
    document.getElementById(`tab-${tabs[place]!.id}`)?.focus();
  };
  useEffect(() => {
    document.getElementById(`tab-${current}`)?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [current]);
  return (
    <>
      <div class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
        {tabs.map((tab) => (
          <button
            key={tab.id}
            id={`tab-${tab.id}`}
            role="tab"
            aria-selected={tab.id === current}
            aria-controls="tab-panel"
            tabIndex={tab.id === current ? 0 : -1}
            onClick={() => open(tab.id)}
          >
            {tab.name}
          </button>
        ))}
      </div>
      <div id="tab-panel" role="tabpanel" aria-labelledby={`tab-${current}`}>
        {children}
      </div>
    </>
  );
}
