"""What is kept: jobs and their history, metrics, and a view of the output that attempts write.

`jobs` and `metrics` are SQLite databases over `database`; `records` reads what jobs report,
`logs` what they print; `statedir` guards the folder that all of it lies in. Nothing here decides.
"""
