/** Found when it is asked for first: a plot that nobody sees needs no data. */
export function once<T>(find: () => T): () => T {
  let found: { it: T } | null = null;
  return () => (found ??= { it: find() }).it;
}
