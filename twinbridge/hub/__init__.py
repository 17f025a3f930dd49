"""The embedded hub: the Kubernetes API for our kinds, on SQLite."""
