"""What runs in a job: standard library only, Python ≥ 3.9; torch is imported by what needs it."""
