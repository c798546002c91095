"""Under the wrapper a script is what it is under `python script.py`; how it ends is kept."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

import pytest

from tests.job.attempt import WRAPPER, Attempt, Result


def both(attempt: Attempt, *arguments: object, env: dict[str, str] | None = None) -> tuple[Result, Result]:
    """The same script run by Python itself and, at the same time, under the wrapper."""
    processes = attempt.start(arguments, env), attempt.start([*WRAPPER, *arguments], env)
    plain, wrapped = (Result(*process.communicate(timeout=100), process) for process in processes)
    return plain, wrapped


LOOK = """
'''Its own docstring.'''
import json, os, sys
import __main__
import neighbour
seen = {name: repr(value) for name, value in sorted(globals().items()) if name.startswith("__")}
del seen["__loader__"]
print(json.dumps([seen, type(__loader__).__name__, sys.argv, sys.path[0], __main__ is sys.modules["__main__"],
                  __main__.__dict__ is globals(), sys.flags.safe_path, os.getcwd()]))
"""


@pytest.fixture
def looking(attempt: Attempt) -> Attempt:
    (attempt.folder / "sub").mkdir()
    attempt.script(LOOK, "sub/look.py")
    attempt.script("", "sub/neighbour.py")
    attempt.script("raise SystemExit('the working folder is in the way')", "socket.py")
    (attempt.folder / "link.py").symlink_to("sub/look.py")
    return attempt


@pytest.mark.parametrize("script", ["sub/look.py", "./sub/../sub/look.py", "link.py"])
def test_it_is_the_main_module(looking: Attempt, script: str) -> None:
    plain, wrapped = both(looking, script, "-x", "--", "y z")
    assert plain.code == 0, plain.stderr
    assert json.loads(wrapped.stdout) == json.loads(plain.stdout)
    plain, wrapped = both(looking, looking.folder / script)
    assert json.loads(wrapped.stdout) == json.loads(plain.stdout)


def test_it_keeps_the_search_path_safe_where_asked(looking: Attempt) -> None:
    looking.script("import sys; print(sys.path[0])", "path.py")
    plain, wrapped = both(looking, "path.py", env={**looking.env, "PYTHONSAFEPATH": "1"})
    assert plain.stdout == wrapped.stdout != ""


ENDS = {
    "end": "print('done')",
    "exit-0": "import sys; sys.exit(0)",
    "exit-3": "import sys; sys.exit(3)",
    "exit-none": "import sys; sys.exit()",
    "exit-text": "import sys; sys.exit('because')",
    "exit-300": "import sys; sys.exit(300)",
    "exit-minus-1": "import sys; sys.exit(-1)",
    "exit-true": "import sys; sys.exit(True)",
    "os-exit": "import os; os._exit(7)",
    "error": "def inner():\n    raise ValueError('no\\nway')\ninner()",
    "chained": "try:\n    1/0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error",
    "import-error": "import torchh",
    "syntax": "x = 1\nif x\n    pass",
    "recursion": "def f(n): return f(n + 1)\nf(0)",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "segv": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "hook": "import sys\nsys.excepthook = lambda kind, error, trace: print(trace.tb_lineno, error)\n1/0",
    "bad-str": "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
    "late": """
import atexit, threading, time
atexit.register(print, "atexit")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
raise ValueError("early")
""",
    "own-class": "class Mine(Exception): pass\nraise Mine('m')",
    "forked": """
import os, sys
if os.fork() == 0:
    sys.exit(9)
os.wait()
raise ValueError("parent")
""",
}


# (exit code, type, message) in the rank's file: None where there is no file, or no error
KEPT: dict[str, tuple[int, str | None, str | None] | None] = {
    "end": (0, None, None),
    "exit-0": (0, None, None),
    "exit-none": (0, None, None),
    "exit-3": (3, None, None),
    "exit-true": (1, None, None),
    "exit-minus-1": (255, None, None),
    "exit-300": (44, None, None),
    "exit-text": (1, "SystemExit", "because"),
    "os-exit": None,
    "error": (1, "ValueError", "no\nway"),
    "chained": (1, "KeyError", "'k'"),
    "import-error": (1, "ModuleNotFoundError", "No module named 'torchh'"),
    "syntax": (1, "SyntaxError", "expected ':' (script.py, line 2)"),
    "recursion": (1, "RecursionError", "maximum recursion depth exceeded"),
    "interrupt": (130, "KeyboardInterrupt", ""),
    "killed": None,
    "segv": None,
    "terminated": None,
    "hook": (1, "ZeroDivisionError", "division by zero"),
    "bad-str": (1, "E", "<str() raised ValueError>"),
    "late": (1, "ValueError", "early"),
    "own-class": (1, "Mine", "m"),
    "forked": (1, "ValueError", "parent"),
}


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_ever_and_how_is_kept(attempt: Attempt, end: str) -> None:
    before = time.time()
    plain, wrapped = both(attempt, attempt.script(ENDS[end]))
    assert (wrapped.code, wrapped.stdout) == (plain.code, plain.stdout)
    assert frames_counted(wrapped.stderr) == frames_counted(plain.stderr)

    expected = KEPT[end]
    assert (attempt.folder / "rank-0.json").exists() == (expected is not None)
    if expected is None:
        return
    status = attempt.status()
    code, kind, message = expected
    assert (status["rank"], status["pid"], status["exit_code"]) == (0, wrapped.pid, code)
    assert before <= status["ended_at"] <= time.time()
    error = status["error"]
    assert (error and (error["type"], error["message"])) == (kind and (kind, message))
    if kind == "SystemExit":
        assert error["traceback"] == ""
    elif kind and end not in ("hook", "late"):
        assert frames_counted(error["traceback"]) == frames_counted(plain.stderr)
    assert list(attempt.folder.glob("*.tmp")) == []


@pytest.mark.parametrize(
    "end", ["end", "exit-3", "error", "interrupt", "killed", "terminated", "segv", "late"]
)
def test_a_keeper_ends_as_its_rank(attempt: Attempt, end: str) -> None:
    script = attempt.script(ENDS[end])
    plain = attempt.run([script])
    kept = attempt.run([*WRAPPER, script], {**attempt.env, "WORLD_SIZE": "2"})
    assert (kept.code, kept.stdout, kept.stderr) == (plain.code, plain.stdout, plain.stderr)


def frames_counted(text: str) -> str:
    """A traceback. The deepest recursion is a few calls shorter under the wrapper."""
    return re.sub(r"repeated \d+ more", "repeated", text)


@pytest.mark.parametrize("source", ["x = 1\0", "# coding: nonsense\n"])
def test_a_script_that_is_no_text(attempt: Attempt, source: str) -> None:
    result = attempt.run([*WRAPPER, attempt.script(source)])
    assert result.code == 1
    assert "SyntaxError" in result.stderr
    assert "wrapper.py" not in result.stderr


def test_a_script_that_is_not_there(attempt: Attempt) -> None:
    plain, wrapped = both(attempt, "missing.py")
    assert wrapped.code == plain.code == 2
    assert wrapped.stderr.partition(":")[2] == plain.stderr.partition(":")[2]
    status = attempt.status()
    assert status["exit_code"] == 2
    assert status["error"]["type"] == "FileNotFoundError"
    assert status["error"]["traceback"] == ""


def test_a_type_from_a_module_is_named_with_it(attempt: Attempt) -> None:
    attempt.run([*WRAPPER, attempt.script("import json; json.loads('{')")])
    assert attempt.status()["error"]["type"] == "json.decoder.JSONDecodeError"


def test_a_long_traceback_is_cut_in_the_middle(attempt: Attempt) -> None:
    attempt.run([*WRAPPER, attempt.script("raise ValueError('start' + 'x' * 1_000_000 + 'end')")])
    error = attempt.status()["error"]
    assert len(error["message"]) == 4000
    assert len(error["traceback"]) < 70_000
    assert error["traceback"].startswith("Traceback")
    assert error["traceback"].endswith("end\n")


def test_a_disk_that_is_full_changes_no_exit_status(attempt: Attempt) -> None:
    source = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (5, 5))\nsys.exit(4)"
    result = attempt.run([*WRAPPER, attempt.script(source)])
    assert result.code == 4
    assert "rank-0.json: File too large" in result.stderr
    assert not (attempt.folder / "rank-0.json").exists()


PROCESSES = """
import multiprocessing, pickle, sys
class Sample:
    def __eq__(self, other): return type(self) is type(other)
def work(sample, queue):
    queue.put((type(sample).__name__, sample == Sample(), sys.argv[1:], __name__))
if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(Sample())) == Sample()
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=work, args=(Sample(), queue))
    process.start()
    print(*queue.get(timeout=100))
    process.join()
    process = context.Process(target=__import__("time").sleep, args=(600,))
    process.start(); process.terminate(); process.join(100)
    print(process.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_finds_the_script(attempt: Attempt, method: str) -> None:
    plain, wrapped = both(attempt, attempt.script(PROCESSES), method)
    assert (wrapped.code, wrapped.stdout, wrapped.stderr) == (plain.code, plain.stdout, plain.stderr)
    assert wrapped.stdout.endswith("-15\n")


STACKS = """
import threading, time
def stuck_here(lock): lock.acquire()
lock = threading.Lock()
lock.acquire()
threading.Thread(target=stuck_here, args=(lock,), daemon=True).start()
print("up", flush=True)
input()
"""


@pytest.mark.parametrize("ranks", ["1", "2"], ids=["alone", "kept"])
def test_sigusr2_shows_where_it_is(attempt: Attempt, ranks: str) -> None:
    attempt.env["WORLD_SIZE"] = ranks
    process = attempt.start([*WRAPPER, attempt.script(STACKS)], stdin=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGUSR2)
    shown = ""
    while "Current thread" not in shown:
        shown += process.stderr.readline()
    _, rest = process.communicate("on\n", timeout=100)
    assert "in stuck_here" in shown + rest
    assert process.returncode == 0


def test_usage(attempt: Attempt) -> None:
    result = attempt.run(WRAPPER)
    assert (result.code, result.stderr) == (1, "usage: python -m trainforge.rank SCRIPT ARGS…\n")
