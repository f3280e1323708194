"""The memory: one SQLite file; a state change and the event that tells it are one transaction."""
