"""Huey: a message is taken from the queue before its task."""

import work
from huey import RedisHuey

huey = RedisHuey("bench", url=work.URL)


@huey.task()
def task() -> None:
    work.work()


def enqueue() -> None:
    task()
