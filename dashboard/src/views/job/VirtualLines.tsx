/** Any number of lines, of which only those in sight are in the document. Stays at the end while it is there. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const HEIGHT = 19; // px of a line, as in the style sheet
const AROUND = 20; // lines above and below those in sight

interface Props {
  lines: string[];
  dropped: number;
  follow: { current: boolean };
  label: string;
}

export function VirtualLines({ lines, dropped, follow, label }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const [atEnd, setAtEnd] = useState(true);
  useLayoutEffect(() => {
    const node = box.current!;
    if (follow.current) node.scrollTop = node.scrollHeight;
  }, [lines]);
  useEffect(() => {
    const node = box.current!;
    const look = () => {
      follow.current = node.scrollHeight - node.scrollTop - node.clientHeight < 2 * HEIGHT;
      setAtEnd(follow.current);
      setView({ top: node.scrollTop, height: node.clientHeight });
    };
    look();
    node.addEventListener("scroll", look, { passive: true });
    const watch = new ResizeObserver(look);
    watch.observe(node);
    return () => {
      node.removeEventListener("scroll", look);
      watch.disconnect();
    };
  }, []);
  const first = Math.max(0, Math.floor(view.top / HEIGHT) - AROUND);
  const end = Math.min(lines.length, Math.ceil((view.top + view.height) / HEIGHT) + AROUND);
  const toEnd = () => {
    follow.current = true;
    box.current!.scrollTop = box.current!.scrollHeight;
  };
  return (
    <div class="log-frame">
      <div ref={box} class="log" tabIndex={0} role="log" aria-label={label} aria-live="off">
        <div class="log-all" style={{ height: `${lines.length * HEIGHT}px` }}>
          <div class="log-seen" style={{ transform: `translateY(${first * HEIGHT}px)` }}>
            {lines.slice(first, end).map((line, i) => (
              <div key={dropped + first + i} class="log-line">
                {line || " "}
              </div>
            ))}
          </div>
        </div>
      </div>
      {!atEnd && (
        <button class="to-end" onClick={toEnd}>
          To the end ↓
        </button>
      )}
    </div>
  );
}
