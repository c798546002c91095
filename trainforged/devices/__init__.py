"""The GPUs: what they are, what uses them, and whether one is free again.

`nvml` reads real ones through a process of its own, `simulated` makes some up; `observe`, `clear`
and `history` say what follows from their samples. Nothing here decides who gets a GPU.
"""
