"""Sessions: the file that an agent's program keeps of its session, found on disk."""

from collections.abc import Mapping

from crewd.host import session_file
from crewd.host.tails import Follow
from crewd.model.agent import Profile
from crewd.sources.agents.session_files import is_of, where

HEAD = 1 << 16  # bytes in which the first line of such a file ends


def find(profile: Profile, environ: Mapping[str, str], session: str) -> str:
    """Find the file of a session, the newest of those that bear its name; "": there is none. Never raises OSError.

    `environ`: of the agent, which names the home of its sessions.
    """
    place = where(profile.name, environ, session)
    found = session_file.find(place.root, place.parts) if place is not None else []
    return next((path for path in found if is_of(profile.name, _first_line(path), session)), "")


def _first_line(path: str) -> bytes:
    try:
        with Follow.open(path) as file:
            return file.read(HEAD).partition(b"\n")[0]
    except OSError:
        return b""
