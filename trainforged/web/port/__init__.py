"""The web port: the page and the same API for browsers, behind a gate, a sign-in and sessions."""
