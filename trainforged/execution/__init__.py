"""Running one attempt: its files and environment, its shim, and what is left of it when it is over.

`supervisor` takes the core's orders and tells what comes of them; `attempt` sees one through from what its
`folder` says, until `release` has seen to its `leftovers`. `files` and `environments` lay out what the
command needs; `starting` puts it together and starts its `shim`, which outlives the daemon; `observing` looks
at what runs. Nothing here decides.
"""
