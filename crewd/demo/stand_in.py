"""The process that stands in for an agent or a runner: it waits on its pipe, runs a tool when told, ends with it.

Run as a script of its own, without crewd on its path. Whoever holds the other end of the pipe may die of anything:
then reading ends, and so does this.
"""

import ctypes
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Obey `tool SECONDS`, one order a line, until the pipe is closed."""
    tools: list[subprocess.Popen[bytes]] = []
    libc = ctypes.CDLL(None)
    own_pid = libc.getpid()

    def die_with_parent() -> None:
        # Neither the parent's kill -9 nor its end leaves a tool behind, also not where it came before this line.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if libc.getppid() != own_pid:
            libc._exit(1)

    for order in sys.stdin:
        tools = [tool for tool in tools if tool.poll() is None]
        word, _, seconds = order.strip().partition(" ")
        if word == "tool":
            tools.append(
                subprocess.Popen(["sleep", seconds], stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509  one thread
            )
    for tool in tools:
        tool.kill()
        tool.wait()


if __name__ == "__main__":
    main()
