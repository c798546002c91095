"""What GPUs were held for, and what became of it: accounts per attempt, and waste that is pointed out."""
