"""A training script that tells when it began, and ends. Argument: the folder to tell it in."""

import time

began = time.time()

import os  # noqa: E402
import sys  # noqa: E402

path = f"{sys.argv[1]}/rank-{os.environ.get('RANK', '0')}"
with open(f"{path}.new", "w") as file:
    file.write(str(began))
os.rename(f"{path}.new", path.replace(".new", ""))
