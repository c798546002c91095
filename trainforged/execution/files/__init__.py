"""Contents of projects: the store that holds each once, and the jobs' own copies of them."""
