"""Asked by HTTP: read-only pages over the newest snapshot and the ledger."""
