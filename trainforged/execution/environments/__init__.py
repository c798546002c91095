"""Isolated environments: made from what a project's requirements name, kept, and shared by jobs."""
