/** Output of a job as lines of plain text, the newest of them, however fast they come. */

const MOST = 50_000; // lines kept
// eslint-disable-next-line no-control-regex
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

export class Lines {
  list: string[] = [];
  /** How many were dropped from the front. */
  dropped = 0;
  private rest = "";

  add(text: string): void {
    const parts = (this.rest + text).split("\n");
    this.rest = parts.pop()!;
    if (this.rest.length > 65_536) parts.push(this.rest), (this.rest = "");
    for (const part of parts) this.list.push(plain(part));
    if (this.list.length > MOST) {
      const over = this.list.length - MOST;
      this.list = this.list.slice(over);
      this.dropped += over;
    }
  }

  /** With what has no end yet: a progress bar, say. */
  get shown(): string[] {
    return this.rest ? [...this.list, plain(this.rest)] : this.list;
  }
}

/** Without colours and cursor movements; of a line that was written over and over, the last. */
export function plain(line: string): string {
  const end = line.endsWith("\r") ? line.length - 1 : line.length;
  const text = line.slice(line.lastIndexOf("\r", end - 1) + 1, end);
  return text.replace(ESCAPES, "");
}
