"""Tests of the door to clock, processes, disk and service manager: against the real kernel wherever it can be had."""
