"""What turns the sources into packages: setuptools, and before it the page (`dashboard/`, by Vite).

Used when a package is built, and by hand: `python -m building.page`, `python -m building.api_types`.
Nothing of it is installed.
"""
