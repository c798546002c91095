"""What the daemon does about disks: those that are full, do not answer, or damage what lies on them."""
