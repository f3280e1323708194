"""Shipped files as somebody else needs them: with another address of crewd, and another job label."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from crewd.errors import UsageProblem
from crewd.host.assets import RUNBOOKS

ADDRESS = "http://127.0.0.1:9464"  # as the shipped files name crewd
TARGET = "127.0.0.1:9464"  # as Prometheus is told to ask it
JOB = "crewd"
PORTS = {"http": 80, "https": 443}
# Only what stands for itself in YAML, JSON, PromQL and the templates of annotations alike: nothing has to be escaped.
URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]{1,255}(/[A-Za-z0-9._~/-]{0,255})?")
LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,99}")
# Where the address is that of the daemon as others reach it. Elsewhere it is the loopback address of a container.
ADDRESSED = ("prometheus/", "alertmanager/", "grafana/", "kubernetes/", RUNBOOKS)
LABELLED = ("prometheus/", "alertmanager/", "grafana/", "kubernetes/", "container/", RUNBOOKS)
_MATCHER = re.compile(r'(\bjob\s*=\s*\\?")' + JOB + r'(?=\\?")')
_JSON = re.compile(r'("job"\s*:\s*")' + JOB + r'(?=")')
_YAML = re.compile(r"^(\s*(?:-\s+)?(?:job|job_name):\s+)[\"']?" + JOB + r"[\"']?(?=\s*(?:#.*)?$)", re.MULTILINE)


@dataclass(frozen=True)
class Fit:
    """What is put in place of the shipped address and job. UsageProblem: it cannot stand in every file."""

    url: str = ADDRESS
    job: str = JOB

    def __post_init__(self) -> None:
        if not URL.fullmatch(self.url) or not _host_and_port(self.url):
            raise UsageProblem(f"--url {self.url!r} is no address such as http://crewd.example:9464")
        if not LABEL.fullmatch(self.job):
            raise UsageProblem(
                f"--job {self.job!r} is no label of letters, digits and _ . / : -, at most 100 of them"
            )

    @property
    def target(self) -> str:
        """Name host and port, as `targets` of Prometheus do."""
        return _host_and_port(self.url)

    @property
    def needs_more(self) -> str:
        """Say what a scrape configuration needs besides its target, "": nothing."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        more = ["scheme: https"] if parts.scheme == "https" else []
        more += [f"metrics_path: {path}/metrics"] if path else []
        return " and ".join(more)


def fitted(name: str, data: bytes, fit: Fit) -> bytes:
    """Return the file `name` with the address and the job that are wanted; what is not UTF-8 as it is."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    if name.startswith(ADDRESSED) and fit.url != ADDRESS:
        text = text.replace(ADDRESS, fit.url.rstrip("/"))
        if name.startswith("prometheus/"):
            text = text.replace(TARGET, fit.target)
    if name.startswith(LABELLED) and fit.job != JOB:
        text = _MATCHER.sub(rf"\g<1>{fit.job}", text)
        text = _JSON.sub(rf"\g<1>{fit.job}", text)
        text = _YAML.sub(rf'\g<1>"{fit.job}"', text)  # quoted: 7 and null are jobs too
    return text.encode()


def _host_and_port(url: str) -> str:
    """Return `host:port`, "" where there is no such host or port."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return ""
    if not parts.hostname or port == 0 or parts.netloc.endswith(":"):
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or PORTS[parts.scheme]}"
