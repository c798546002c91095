"""Running one attempt: its files and environment, its shim, and what is left of it when it is over.

`supervisor` takes the core's orders and tells what comes of them; `attempt` sees one through from
what its `folder` says; `spawn` starts its `shim`, which outlives the daemon; `host` says what the
shim runs. `files` and `environments` lay out what the command needs. Nothing here decides.
"""
