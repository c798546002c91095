/** A job's settings in the form of a job file, without what is empty. */

export function yaml(value: unknown): string {
  return lines(value, "").join("\n");
}

function lines(value: unknown, indent: string): string[] {
  if (Array.isArray(value)) return value.map((item) => `${indent}- ${isPlain(item) ? scalar(item) : JSON.stringify(item)}`);
  return Object.entries(value as Record<string, unknown>).flatMap(([key, item]) => {
    if (isEmpty(item)) return [];
    if (isPlain(item)) return [`${indent}${key}: ${measure(key, item) ?? scalar(item)}`];
    const inner = lines(item, `${indent}  `);
    return inner.length ? [`${indent}${key}:`, ...inner] : [];
  });
}

const DURATIONS = new Set(["time_limit", "backoff", "grace", "hang_timeout"]);
const SIZES = new Set(["memory", "gpu_memory"]);
const UNITS = ["Ti", "Gi", "Mi", "Ki"];

/** Durations and sizes with the unit that a job file writes them with. */
function measure(key: string, value: unknown): string | null {
  if (typeof value !== "number") return null;
  if (DURATIONS.has(key)) return `${value}s`;
  if (!SIZES.has(key)) return null;
  const place = UNITS.findIndex((_, i) => value > 0 && value % 1024 ** (UNITS.length - i) === 0);
  return place < 0 ? String(value) : `${value / 1024 ** (UNITS.length - place)}${UNITS[place]}`;
}

function isPlain(value: unknown): boolean {
  return value === null || typeof value !== "object";
}

function isEmpty(value: unknown): boolean {
  return value === null || value === "" || (typeof value === "object" && Object.keys(value as object).length === 0);
}

/** Text that YAML would read as something else is quoted. */
function scalar(value: unknown): string {
  if (typeof value !== "string") return String(value);
  return /^[A-Za-z_./][\w ./@-]*$/.test(value) && !/^(true|false|yes|no|on|off|null)$/i.test(value) ? value : JSON.stringify(value);
}
