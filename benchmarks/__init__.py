"""What the README's speed figures come from. `python -m benchmarks --help` says how to run them.

Every figure is measured beside a floor or a peer in the same run, and given as a ratio to it where
that says more: the machine then matters less. Figures and the load they were taken under are written
to `results/`, one JSON file a benchmark, and `RESULTS.md` is made from those files.
"""
