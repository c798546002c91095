"""A project as it is at submission: which files it has, their contents, and its Python."""
