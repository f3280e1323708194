"""DBOS: every task is a workflow, whose start and end are rows in SQLite."""

import os
import sys
import time

import work
from dbos import DBOS

DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{os.environ['BENCH_FOLDER']}/dbos.sqlite"})


@DBOS.workflow()
def task() -> None:
    work.work()


if __name__ == "__main__":  # the one process that enqueues, takes and does the work
    DBOS.launch()
    DBOS.register_queue("bench", concurrency=4, polling_interval_sec=0.05)
    print("ready", flush=True)
    for line in sys.stdin:
        before, began = time.process_time(), time.monotonic()
        for _ in range(int(line)):
            DBOS.enqueue_workflow("bench", task)
        print(began, time.process_time() - before, flush=True)
