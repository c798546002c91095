"""The routes of the HTTP API, by subject. Each checks a request's form and asks the service."""
