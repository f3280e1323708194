"""Dramatiq: a message is acknowledged after its task."""

import dramatiq
import work
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=work.URL))


@dramatiq.actor
def task() -> None:
    work.work()


def enqueue() -> None:
    task.send()
