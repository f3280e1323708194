"""Celery: a message is acknowledged after its task, as for whoever wants it to survive a crash."""

import work
from celery import Celery

app = Celery("bench", broker=work.URL)
app.conf.update(task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task
def task() -> None:
    work.work()


def enqueue() -> None:
    task.delay()
