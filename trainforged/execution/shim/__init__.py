"""The shim: the parent of one attempt. It outlives the daemon that started it.

    python -I -S -X utf8 .../shim/start.py <the attempt's folder>

    start    the entry            run      the life of an attempt, from lock to exit status
    child    starting the command course   when to ask, when to kill: decisions alone
    output   logs within a cap    ranks    who the ranks are and how they ended
    locks    one shim per attempt, one holder per GPU
    lean     what it needs of the standard library, without the imports that make it slow

Standard library only, single-threaded, a few MB. Everything is imported before anything is done:
the files it came from may be replaced by an upgrade while it runs.
"""
