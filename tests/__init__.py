"""Tests mirror crewd/, one module per module; `fakes` stands in for whatever is unpredictable."""
