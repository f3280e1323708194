"""The nouns that the five verbs pass on: frozen values; no I/O, no clock, no chance."""
