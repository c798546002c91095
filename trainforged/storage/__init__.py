"""What is kept: jobs and their history, metrics, accounts, and a view of the output that attempts write.

`jobs`, `metrics` and `accounts` are SQLite databases over `database`; `following` reads what attempts report,
`logs` gives what they print; `statedir` guards the folder that all of it lies in. Nothing here decides.
"""
