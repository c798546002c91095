"""What a job and the daemon agree on: environment variables, files, kinds of records.

Part of the in-job half: standard library only, Python ≥ 3.9. The two halves may be of different
versions (a job keeps the copy it started with), so what stands here only grows.

A record is one line of JSON in `records-<rank>.jsonl` in the attempt's folder, written with one
`write` on a descriptor opened for appending. Every record has `kind` (one below) and `time`
(seconds since the epoch, a float).
"""

# Variables set for every process of an attempt.
JOB_ID = "TRAINFORGE_JOB_ID"
ATTEMPT = "TRAINFORGE_ATTEMPT"
JOB_DIR = "TRAINFORGE_JOB_DIR"  # the job's folder below the state folder
SUBMIT_DIR = "TRAINFORGE_SUBMIT_DIR"
CHECKPOINT_DIR = "TRAINFORGE_CHECKPOINT_DIR"
CHECKPOINT_KEEP = "TRAINFORGE_CHECKPOINT_KEEP"
RESUME_FROM = "TRAINFORGE_RESUME_FROM"
TOKEN = "TRAINFORGE_ATTEMPT_TOKEN"  # names the attempt in /proc/<pid>/environ
ATTEMPT_DIR = "TRAINFORGE_ATTEMPT_DIR"  # where records and rank files go
RANK_SOCKET = "TRAINFORGE_RANK_SOCKET"  # the shim's abstract socket, without the leading NUL
CPUS = "TRAINFORGE_CPUS"  # cores of the whole attempt

RESERVED = frozenset(
    {
        JOB_ID, ATTEMPT, JOB_DIR, SUBMIT_DIR, CHECKPOINT_DIR, CHECKPOINT_KEEP, RESUME_FROM, TOKEN,
        ATTEMPT_DIR, RANK_SOCKET, CPUS, "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
        "OMP_NUM_THREADS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
        "MASTER_PORT",
    }
)  # fmt: skip

# Files in the attempt's folder.
RECORDS = "records-{rank}.jsonl"
RANK_STATUS = "rank-{rank}.json"  # how the rank's script ended; see `trainforge.in_job.endings`

# Kinds of records, with the fields beside `kind` and `time`.
REPORT = "report"  # step?, steps?, epoch?, epochs?: numbers; metrics: {name: number}
PHASE = "phase"  # name, state: "begin" | "end"
RESUMED = "resumed"  # step, path: what the Checkpointer restored
CHECKPOINT = "checkpoint"  # step, path, size (bytes), seconds, metrics, best
CHECKPOINT_SKIPPED = "checkpoint_skipped"  # path, problem: damaged, or could not be written
STOPPING = "stopping"  # should_stop answered True

MANIFEST = "manifest.json"  # in a checkpoint's folder, written last; see `trainforge.in_job.checkpoint`
