"""The service manager's side of systemd: what sd_notify(3) says, without its library."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping

# A full queue of the manager must not stop a round. The one-time messages matter more than the repeated ones.
PATIENCE = 0.05
PATIENCE_ONCE = 2.0


class Notifier:
    """Tells the service manager where the daemon stands. Does nothing outside a service, and never raises.

    `watchdog_interval` is the whole period in seconds after which the manager loses patience (a ping is due
    every third of it); None where no watchdog watches this process. `failures` counts messages that were not taken.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, pid: int | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval = _watchdog(environ, os.getpid() if pid is None else pid)
        self._patience = self.watchdog_interval  # as last told to the manager
        self.failures = 0

    @property
    def active(self) -> bool:
        """Whether a service manager listens."""
        return self._address is not None

    def ready(self) -> None:
        """Say that start-up, or a reload, is complete."""
        self._send("READY=1", PATIENCE_ONCE)

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        # A line break would start a second assignment.
        self._send("STATUS=" + " ".join(text.split()), PATIENCE)

    def reloading(self, mono_usec: int) -> None:
        """Say that a reload begins, at this CLOCK_MONOTONIC time in microseconds; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={mono_usec}", PATIENCE_ONCE)

    def stopping(self) -> None:
        """Say that the stop has begun."""
        self._send("STOPPING=1", PATIENCE_ONCE)

    def watchdog(self) -> None:
        """Prove life; to be called only after a complete round."""
        if self.watchdog_interval is not None:
            self._send("WATCHDOG=1", PATIENCE)

    def widen_watchdog(self, seconds: float) -> bool:
        """Have the manager's patience be at least this long; it stays as its unit says where that is longer.

        True: it was widened.
        """
        if self.watchdog_interval is None:
            return False
        patience = max(seconds, self.watchdog_interval)
        if patience == self._patience:
            return False
        self._patience = patience
        self._send(f"WATCHDOG_USEC={round(patience * 1e6)}", PATIENCE_ONCE)
        return patience > self.watchdog_interval

    def extend_timeout(self, seconds: float) -> None:
        """Ask for this much more time from now, to start or to stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={max(0, round(seconds * 1e6))}", PATIENCE)

    @contextlib.contextmanager
    def starting(self, seconds: float = 60.0, at_most: float = 7200.0) -> Iterator[None]:
        """Ask for more time again and again, while something takes long whose length nobody knows.

        From a thread: for what keeps the loop from running, while SIGTERM still ends us at once. `seconds` each time,
        `at_most` all together: whatever hangs is not waited for without end.
        """
        done = threading.Event()

        def ask() -> None:
            for _ in range(max(1, int(2 * at_most / seconds))):
                self.extend_timeout(seconds)
                if done.wait(seconds / 2):
                    return

        asking = threading.Thread(target=ask, name="asks for time", daemon=True)
        asking.start()
        try:
            yield
        finally:
            done.set()
            asking.join()

    def _send(self, message: str, patience: float) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.settimeout(patience)
                door.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            self.failures += 1


def _address(text: str) -> str | None:
    if text.startswith("@"):
        return "\0" + text[1:]  # an abstract socket (unix(7))
    return text if text.startswith("/") else None


def _watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    try:
        microseconds = int(environ["WATCHDOG_USEC"])
        watched = int(environ.get("WATCHDOG_PID") or pid)
    except (KeyError, ValueError):
        return None
    return microseconds / 1e6 if microseconds > 0 and watched == pid else None
