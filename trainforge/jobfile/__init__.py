"""Job files: YAML → one tree → `JobSpec`, with every mistake at its line."""
