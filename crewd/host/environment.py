"""What a worker finds in its environment: what it was given, and nothing by accident."""

from collections.abc import Iterable, Mapping

# Who and where the user is; how times and texts are to be written. No secret goes by these names.
ALWAYS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")


def worker_environment(environ: Mapping[str, str], passed: Iterable[str], more: Mapping[str, str]) -> dict[str, str]:
    """Take the named variables over from crewd's own environment, where they are set, and add `more`, which wins."""
    return {name: environ[name] for name in (*ALWAYS, *passed) if name in environ} | dict(more)
