"""Where the shim starts: finds its own package, and nothing else of ours, then runs the attempt.

`-I -S` keep site-packages, .pth files and the user's PYTHON* variables out; with `-X utf8` names and
environments pass through unchanged in any locale. Ending without the interpreter's own tidying saves
3 ms, and there is nothing to tidy.
"""

import os
import sys

sys.path.append(os.path.abspath(__file__).rsplit("/", 4)[0])

from trainforged.execution.shim.run import main

main(sys.argv[1])
sys.stderr.flush()
os._exit(0)
