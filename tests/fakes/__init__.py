"""Honest stand-ins for the unpredictable: they behave as the real thing does, deaths and jumps included."""
