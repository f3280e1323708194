"""TELL: listeners to events. Each turns what was already recorded into one form: metric, line, log."""
