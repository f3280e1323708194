"""Looking at the daemon in threads of its own, so that the screen never waits for it."""

import threading
from collections.abc import Callable
from typing import Any

from crewd.cli.top_desk import Counter
from crewd.errors import CrewdError

EVERY_SECONDS = 2.0  # between two looks where nothing is heard
LIVE_SECONDS = 10.0  # the same while the stream tells when there is something to see
APART_SECONDS = 0.5  # at least between two looks, whatever is heard
AGAIN_SECONDS = 3.0  # until the stream is asked for again

Told = Callable[[Callable[[], object]], object]


class Watching:
    """Takes the picture again and again: whenever the stream tells of something, and from time to time without it."""

    def __init__(
        self,
        counter: Counter,
        seen: Callable[[dict[str, Any]], object],
        missed: Callable[[str], object],
        every: float = EVERY_SECONDS,
    ) -> None:
        """`seen` and `missed` are called in a thread: with a picture, or with why there is none."""
        self._counter = counter
        self._seen = seen
        self._missed = missed
        self._every = every
        self._bell = threading.Event()
        self._over = threading.Event()
        self.live = False  # the stream is open
        self.silent_because = ""  # why it is not

    def start(self) -> None:
        for work in (self._look, self._listen):
            # Whoever leaves the screen does not wait for an answer that may be minutes away.
            threading.Thread(target=work, name=f"top: {work.__name__}", daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        self._bell.set()

    def look_now(self) -> None:
        """Something was done: what became of it is to be seen."""
        self._bell.set()

    def _look(self) -> None:
        while not self._over.is_set():
            self._bell.clear()
            try:
                self._seen(self._counter.picture())
            except CrewdError as error:
                self._missed(str(error))
            except Exception as error:  # noqa: BLE001 - told on the screen; the next look may go well
                self._missed(f"the answer is not understood: {type(error).__name__}: {error}")
            self._over.wait(min(APART_SECONDS, self._every))
            self._bell.wait(LIVE_SECONDS if self.live else self._every)

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                for piece in self._counter.hear():
                    if self._over.is_set():
                        return
                    self.live = True
                    if b"data:" in piece:
                        self._bell.set()
                self.silent_because = "the stream ended"
            except CrewdError as error:
                self.silent_because = str(error)
            was_live, self.live = self.live, False
            if was_live:
                self._bell.set()  # whoever was heard until now may be gone
            self._over.wait(AGAIN_SECONDS)


def in_background(work: Callable[[], Any], done: Callable[[Any], object], failed: Callable[[str], object]) -> None:
    """Do something that may take long in a thread; `done` or `failed` is called there, with what came of it."""

    def go() -> None:
        try:
            result = work()
        except CrewdError as error:
            failed(str(error))
        except Exception as error:  # noqa: BLE001 - told in the pane that waits for it
            failed(f"the answer is not understood: {type(error).__name__}: {error}")
        else:
            done(result)

    threading.Thread(target=go, name="top: ask", daemon=True).start()
