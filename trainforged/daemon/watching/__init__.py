"""What is looked at all the time: the clock, GPUs, what jobs report and use, and what stands still."""
