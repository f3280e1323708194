"""What every peer does for a task, and how the comparison learns of it."""

import os
import subprocess

URL = os.environ["BENCH_REDIS"]
_done = os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def work() -> None:
    """Run the command, as a user of a queue would, and tell of its end by one byte."""
    subprocess.run(["/bin/true"], check=True)
    os.write(_done, b".")
