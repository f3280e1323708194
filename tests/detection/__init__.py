"""Tests of the judges: examples as tables, and what must hold for any evidence whatever."""
