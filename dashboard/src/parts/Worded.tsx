/** A sentence of the daemon; what stands between backticks in it is code. */
export function Worded({ text }: { text: string }) {
  return <>{text.split("`").map((part, i) => (i % 2 && part ? <code key={i}>{part}</code> : part))}</>;
}
