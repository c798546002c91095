/** A job's settings in the form of a job file, without what is empty. */

export function yaml(value: unknown): string {
  return lines(value, "").join("\n");
}

function lines(value: unknown, indent: string): string[] {
  if (Array.isArray(value)) return value.map((item) => `${indent}- ${isPlain(item) ? scalar(item) : JSON.stringify(item)}`);
  return Object.entries(value as Record<string, unknown>).flatMap(([key, item]) => {
    if (isEmpty(item)) return [];
    if (isPlain(item)) return [`${indent}${key}: ${scalar(item)}`];
    const inner = lines(item, `${indent}  `);
    return inner.length ? [`${indent}${key}:`, ...inner] : [];
  });
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
