"""The port that every format fills: one root, looked at once a round."""

from typing import Protocol

from crewd.model.look import Look
from crewd.model.moment import Reading


class Source(Protocol):
    """One root of one runtime. It remembers what it read, so that a look brings only what differs."""

    @property
    def runtime(self) -> str:
        """Whose format it is: `pi_crew`, `beat`."""
        ...

    @property
    def folder(self) -> str:
        """The configured root."""
        ...

    @property
    def key(self) -> str:
        """Names the observed clock of this root: `pi_crew:/path`."""
        ...

    @property
    def tells_itself(self) -> bool:
        """Whether whoever owns the runs tells what happens to them; then a look brings no events."""
        ...

    def look(self, now: Reading) -> Look:
        """Read what changed since the last look. Called in a worker thread, never twice at once. Never raises."""
        ...

    def watch_paths(self) -> list[str]:
        """Name the folders in which the next change is likely, most telling first: a hint for `watch.Watch`.

        The only method that may be called while a look is under way.
        """
        ...

    def close(self) -> None:
        """Give back what is held open."""
        ...
