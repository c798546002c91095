"""Run a script as one rank of a job: `python -m trainforge.rank SCRIPT ARGS…`.

The script runs as if started by `python SCRIPT ARGS…`: it is the real `__main__` (so multiprocessing
and pickling find it), with its own `sys.argv`, `sys.path[0]` and `__file__`; its exit status and
traceback are what they would be. Beside that

- it dies with its parent (SIGKILL), also when the parent is already gone;
- SIGUSR2 writes the stacks of all threads to stderr, also while it is stuck in a collective;
- it registers with the shim, which then knows of its death at once;
- how it ended is written, durably, to `rank-<r>.json` in the attempt's folder.

Signals. SIGTERM is left alone: until the script first calls `trainforge.should_stop()` or makes a
`Checkpointer` it ends the rank at once, as it ends any Python script; from then on it only sets the
stop flag (see `trainforge.in_job.stopping`). A script that has a handler of its own keeps it. Under a
launcher, which signals whole process groups, only the rank gets the signals and its children do
not (see `trainforge.in_job.keeper`).

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

if __name__ == "__main__":
    import sys

    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[
            0
        ]  # the working folder, put there by -m: its files must not pass for the standard library's
    from trainforge.in_job.wrapper import main

    main(sys.argv[1:])
