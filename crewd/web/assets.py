"""The files of the page: read once at start from the installed package, and served from memory.

No path of a request ever reaches the disk: a name is looked up in a fixed table, or there is no such file.
"""

from collections.abc import Mapping
from importlib.resources import files

from fastapi import FastAPI, Response

from crewd.web.query import NO_QUERY
from crewd.web.refusal import Detail, Refused

ASSETS = "/assets"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add_assets(app: FastAPI, found: Mapping[str, bytes]) -> None:
    """Serve the page at `/`, and what it is made of beneath `/assets/`."""

    @app.get("/", include_in_schema=False, dependencies=NO_QUERY)
    async def index() -> Response:
        """Show the page for a person: crews, runs, tasks, and what they need. See docs/page.md.

        Needs JavaScript; loads nothing from elsewhere.
        """
        return Response(found[INDEX], media_type=media_type(INDEX))

    @app.get(f"{ASSETS}/{{name}}", include_in_schema=False, dependencies=NO_QUERY)
    async def asset(name: str) -> Response:
        """Serve one of the files that the page is made of."""
        if name not in found:
            detail = Detail("asset_unknown", "path.name", "the page has no such file", "open /")
            raise Refused(404, "not_found", "no such file", (detail,))
        return Response(found[name], media_type=media_type(name))


def read_assets() -> dict[str, bytes]:
    """Read every file of the page that has a known type, by name."""
    folder = files("crewd.web") / "assets"
    return {
        each.name: each.read_bytes()
        for each in sorted(folder.iterdir(), key=lambda each: each.name)
        if each.is_file() and media_type(each.name)
    }


def media_type(name: str) -> str:
    """Say what a file is by how its name ends; "" where that is not known."""
    return TYPES.get(name[name.rfind(".") :], "") if "." in name else ""
