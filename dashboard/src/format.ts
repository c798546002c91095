/** Figures as people read them, always with their unit. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const NOTHING = "–";

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return NOTHING;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** "34.2 / 80 GiB": both in the unit of the whole. */
export function share(used: number | null, total: number): string {
  const unit = Math.min(Math.floor(Math.log2(Math.max(total, 1)) / 10), UNITS.length - 1);
  const figure = (value: number) => {
    const scaled = value / 1024 ** unit;
    return scaled >= 100 || Number.isInteger(scaled) ? scaled.toFixed(0) : scaled.toFixed(1);
  };
  return `${used === null ? NOTHING : figure(used)} / ${figure(total)} ${UNITS[unit]}`;
}

/** "2 d 3 h", "14 min", "9 s": the two largest parts. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return minutes < 10 && whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** A measured figure: four significant digits, exponents only where needed. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace("e+", "e");
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? NOTHING : value.toLocaleString("en", { maximumFractionDigits: 1 });
}

/** " / 200", the end of a range that is known. */
export function range(end: number | null | undefined): string {
  return end === null || end === undefined ? "" : ` / ${count(end)}`;
}

export function percent(fraction: number | null | undefined, digits = 0): string {
  return fraction === null || fraction === undefined || Number.isNaN(fraction)
    ? NOTHING
    : `${(100 * fraction).toFixed(digits)} %`;
}

/** A time of day; `step` seconds apart from the next, it has seconds, or its day. */
export function clock(seconds: number, step = 60): string {
  const date = new Date(seconds * 1000);
  if (step >= 86_400) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const time = date.toLocaleTimeString("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    ...(step < 60 ? { second: "2-digit" } : {}),
  });
  return step > 7200 ? `${date.toLocaleDateString("en-GB", { weekday: "short" })} ${time}` : time;
}

export function moment(time: string | number | null | undefined): string {
  if (time === null || time === undefined) return NOTHING;
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  const day = date.toDateString() === new Date().toDateString();
  const options: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  return date.toLocaleString("en-GB", day ? options : { day: "numeric", month: "short", ...options });
}

/** "3 min ago" */
export function ago(time: string | number, now = Date.now()): string {
  const then = typeof time === "number" ? time * 1000 : Date.parse(time);
  const seconds = (now - then) / 1000;
  return seconds < 5 ? "just now" : `${duration(seconds).split(" ").slice(0, 2).join(" ")} ago`;
}

export function plural(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
