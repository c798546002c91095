// Made by `python -m building.api_types` from the daemon's OpenAPI: do not edit.

export interface AttemptSpan {
  attempt: number;
  started_at: string;
  ended_at: string | null;
  reason: string | null;
}

export interface AttemptView {
  number: number;
  gpus: string[];
  started_at: string;
  ended_at: string | null;
  reason: string | null;
  exit_code: number | null;
  signal: number | null;
  message: string | null;
  failed_rank: number | null;
  tail: string | null;
  ranks: RankView[];
  resumed_from: string | null;
  followed: string | null;
}

export interface CancelRequest {
  now: boolean;
}

export interface CheckpointView {
  path: string;
  step: number | null;
  size: number;
  created_at: string;
  best: boolean;
  problem: string | null;
}

export interface Checkpoints {
  checkpoints: SavedCheckpoint[];
}

export interface ComparedMetric {
  name: string;
  values: Record<string, LastAndBest>;
}

export interface ComparedSetting {
  path: string;
  values: Record<string, string | null>;
}

export interface Comparison {
  jobs: JobView[];
  settings: ComparedSetting[];
  metrics: ComparedMetric[];
}

export interface Counts {
  queued: number;
  held: number;
  starting: number;
  running: number;
  stopping: number;
  backoff: number;
  unknown: number;
  succeeded: number;
  failed: number;
  cancelled: number;
}

export interface Difference {
  path: string;
  here: string | null;
  there: string | null;
}

export interface Differences {
  with: number | null;
  rows: Difference[];
}

export interface DiskAnswer {
  jobs: DiskEntry[];
  files: number;
  environments: number;
  database: number;
  total: number;
}

export interface DiskEntry {
  job: number;
  name: string;
  state: JobState;
  project: number;
  checkpoints: number;
  logs: number;
  total: number;
}

export interface DrainRequest {
  reason: string | null;
}

export interface Error {
  code: ErrorCode;
  message: string;
  details: ErrorDetail[];
}

export interface ErrorAnswer {
  error: Error;
}

export type ErrorCode = "conflict" | "forbidden" | "internal" | "invalid_request" | "invalid_spec" | "method_not_allowed" | "missing_files" | "no_space" | "no_such_job" | "not_found" | "not_signed_in" | "not_yet" | "timeout" | "too_large" | "too_many" | "unavailable";

export interface ErrorDetail {
  path: string;
  message: string;
  file: string | null;
  line: number | null;
}

export interface EventList {
  events: EventView[];
  next: number | null;
}

export interface EventView {
  id: number;
  time: string;
  type: string;
  job: number | null;
  message: string;
  data: Record<string, unknown>;
}

export interface FileEntry {
  path: string;
  sha256: string | null;
  mode: number;
  size: number;
  target: string | null;
}

export interface FoundLine {
  attempt: number;
  number: number;
  rank: number | null;
  text: string;
}

export interface FoundLines {
  lines: FoundLine[];
  more: boolean;
}

export interface Git {
  commit: string;
  dirty: boolean;
}

export interface GpuHistory {
  every: number;
  utilisation: (number | null)[];
  memory: (number | null)[];
  temperature: (number | null)[];
  power: (number | null)[];
}

export interface GpuLane {
  uuid: string;
  index: number;
  name: string;
  spans: Span[];
}

export interface GpuList {
  gpus: GpuView[];
  problem: string | null;
  driver: string | null;
}

export interface GpuProcess {
  pid: number;
  memory: number | null;
  kind: string;
  name: string | null;
  user: string | null;
}

export interface GpuSeries {
  uuid: string;
  index: number;
  name: string;
  times: number[];
  utilization: (number | null)[];
  memory: (number | null)[];
  memory_total: number;
  temperature: (number | null)[];
  power: (number | null)[];
}

export interface GpuView {
  uuid: string;
  index: number;
  name: string;
  pci: string | null;
  memory_total: number;
  memory_used: number | null;
  utilisation: number | null;
  temperature: number | null;
  power: number | null;
  power_limit: number | null;
  processes: GpuProcess[];
  state: string;
  reason: string | null;
  job: number | null;
  simulated: boolean;
  history: GpuHistory | null;
}

export interface GpusHistory {
  from: number;
  to: number;
  step: number;
  gpus: GpuSeries[];
}

export interface GpusTimeline {
  from: number;
  to: number;
  gpus: GpuLane[];
}

export interface Group {
  name: string;
  jobs: number;
  gpu_seconds: number;
  busy_seconds: number;
  idle_seconds: number;
  unmeasured_seconds: number;
  lost_seconds: number;
  won_seconds: number;
}

export interface GroupsView {
  folder: string;
  limits: string[];
}

export interface Incident {
  job: number;
  state: string;
  reason: string | null;
  sentence: string;
  cause: string | null;
  evidence: string[];
  rank: number | null;
  traceback: string | null;
  last_metrics: Record<string, number | "-Infinity" | "Infinity" | "NaN">;
  last_progress: Progress | null;
  stacks: RankStack[];
  tried: Tried[];
  advice: string[];
  events: EventView[];
}

export interface JobAccount {
  job: number;
  name: string;
  user: string;
  gpus: number;
  attempts: number;
  running: boolean;
  gpu_seconds: number;
  busy_seconds: number;
  idle_seconds: number;
  unmeasured_seconds: number;
  mean_utilization: number | null;
  gpu_memory: number;
  mean_gpu_memory: number | null;
  peak_gpu_memory: number;
  cpu: number;
  mean_cpu: number | null;
  memory: number | null;
  peak_memory: number;
  lost_seconds: number;
  won_seconds: number;
  waste: string | null;
}

export interface JobHistory {
  times: number[];
  cpu: (number | null)[];
  memory: (number | null)[];
  read: (number | null)[];
  written: (number | null)[];
  received: (number | null)[];
  sent: (number | null)[];
  gpus: GpuSeries[];
  attempts: AttemptSpan[];
}

export interface JobList {
  jobs: JobView[];
  next: string | null;
}

export interface JobProgress {
  job: number;
  progress: Progress | null;
  usage: Usage | null;
}

export type JobState = "backoff" | "cancelled" | "failed" | "held" | "queued" | "running" | "starting" | "stopping" | "succeeded" | "unknown";

export interface JobView {
  id: number;
  name: string;
  user: string;
  state: JobState;
  reason: string | null;
  priority: number;
  submitted_at: string;
  started_at: string | null;
  ended_at: string | null;
  resources: ResourceView;
  gpus: string[];
  gpu_indices: number[];
  attempt: number;
  retries: number;
  exit_code: number | null;
  git: Git | null;
  progress: Progress | null;
  usage: Usage | null;
  why: string;
  dir: string;
  elapsed: number;
  time_limit: number | null;
  waste: Waste | null;
  label: string;
  description: string;
  base_image: string | null;
  root: string | null;
  workdir: string | null;
  attempts: AttemptView[] | null;
  spec: Record<string, unknown> | null;
}

export interface LastAndBest {
  last: number | "-Infinity" | "Infinity" | "NaN";
  best: number | null;
  best_step: number | null;
}

export interface MetricsAnswer {
  job: number;
  series: Series[];
  rank: number;
  ranks: number[];
}

export interface MissingAnswer {
  missing: string[];
}

export interface MissingRequest {
  files: string[];
}

export interface PathAnswer {
  dir: string;
  project: string;
  checkpoints: CheckpointView[];
}

export interface PointsAnswer {
  job: number;
  rank: number;
  series: Series;
  next: string | null;
}

export interface Progress {
  step: number | null;
  steps: number | null;
  epoch: number | null;
  epochs: number | null;
  eta: number | null;
  fraction: number | null;
  metrics: Record<string, number | null>;
  phase: string | null;
  time: string | null;
}

export interface PruneAnswer {
  jobs: number[];
  freed: number;
}

export interface PruneRequest {
  older_than: number;
  dry_run: boolean;
}

export interface RankStack {
  rank: number;
  text: string;
}

export interface RankView {
  rank: number;
  pid: number | null;
  exit_code: number | null;
  signal: number | null;
  error: string | null;
  traceback: string | null;
}

export interface RemoveRequest {
  keep: string | null;
}

export interface ReportAnswer {
  since: string;
  until: string;
  gpu_seconds: number;
  busy_seconds: number;
  idle_seconds: number;
  unmeasured_seconds: number;
  free_seconds: number;
  lost_seconds: number;
  won_seconds: number;
  users: Group[];
  projects: Group[];
  jobs: JobAccount[];
}

export interface ResourceView {
  gpu: number | string;
  cpu: number;
  memory: number | null;
}

export interface RetryRequest {
  request_id: string;
  spec: Record<string, unknown> | null;
  checkpoint: string;
  files: FileEntry[] | null;
  shell: ShellState | null;
  git: Git | null;
  varied: string[];
}

export interface SavedCheckpoint {
  name: string;
  step: number | null;
  saved_at: string;
  size: number;
  best: boolean;
  whole: boolean;
}

export interface Series {
  name: string;
  step: number[];
  time: number[];
  value: (number | "-Infinity" | "Infinity" | "NaN")[];
  attempt: number[];
  epoch: (number | null)[];
}

export interface SessionAnswer {
  user: string;
  host: string;
  version: string;
  expires_at: string | null;
}

export interface ShellState {
  env: Record<string, string>;
  python: string | null;
  cwd: string | null;
  root: string | null;
}

export interface SignInAnswer {
  code: string;
  expires_at: string;
  address: string;
}

export interface Span {
  from: number;
  to: number;
  kind: "drained" | "foreign" | "job" | "set_aside" | "unknown";
  job: number | null;
  name: string | null;
  attempt: number | null;
  reason: string | null;
}

export interface SpecAnswer {
  spec: Record<string, unknown>;
  git: Git | null;
  workdir: string | null;
  project: string;
  root: string | null;
}

export interface StatusAnswer {
  version: string;
  pid: number;
  started_at: string;
  uptime: number;
  user: string;
  state_dir: string;
  simulated: boolean;
  jobs: Counts;
  gpus_total: number;
  gpus_free: number;
  cpu_total: number;
  cpu_free: number;
  memory_total: number;
  memory_free: number;
  load: [number, number, number];
  disk_free: number;
  last_event: number;
  project_limit: number;
  web: string | null;
  web_problem: string | null;
  storage_problem: string | null;
  groups: GroupsView | null;
}

export interface SubmitRequest {
  spec: Record<string, unknown>;
  workdir: string | null;
  files: FileEntry[] | null;
  shell: ShellState;
  git: Git | null;
  hold: boolean;
  resume_from: number | null;
  varied: string[];
  request_id: string;
}

export interface SweepJob {
  request_id: string;
  spec: Record<string, unknown>;
}

export interface SweepRequest {
  spec: Record<string, unknown>;
  workdir: string | null;
  files: FileEntry[] | null;
  shell: ShellState;
  git: Git | null;
  hold: boolean;
  resume_from: number | null;
  varied: string[];
  jobs: SweepJob[];
}

export interface Tried {
  attempt: number;
  started_at: string;
  ended_at: string | null;
  reason: string | null;
  message: string | null;
  resumed_from: string | null;
  followed: string | null;
}

export interface UpdateRequest {
  set: Record<string, unknown>;
}

export interface Usage {
  cpu: number;
  memory: number;
  read: number;
  written: number;
  received: number | null;
  sent: number | null;
  processes: number;
}

export interface Waste {
  since: string;
  mean_utilization: number;
  sentence: string;
}
