"""JUDGE: evidence and observed silence in, verdict out. Pure: no I/O, no clock, no chance."""
