"""Telling people: what happened to their jobs, by the ways that they named, until it has arrived."""
