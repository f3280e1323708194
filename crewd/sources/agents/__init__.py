"""Readers of what agent command lines print: one module a program. A line in, signs out; no clock and no I/O."""
