"""Enqueue so many tasks of one peer for every number that is read; tell when it began, and its CPU time."""

import importlib
import sys
import time

app = importlib.import_module(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    before, began = time.process_time(), time.monotonic()
    for _ in range(int(line)):
        app.enqueue()
    print(began, time.process_time() - before, flush=True)
