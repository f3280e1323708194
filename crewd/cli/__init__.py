"""Asked by a person: one module per command."""
