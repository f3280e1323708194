"""Sinks: daily JSONL files for `tail -F` and for shipping. Projections: the ledger is the truth."""
