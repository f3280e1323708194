"""Shipped files as somebody else needs them: with other addresses of crewd and Grafana, and another job label."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from crewd.errors import UsageProblem
from crewd.host.assets import RUNBOOKS

ADDRESS = "http://127.0.0.1:9464"  # as the shipped files name crewd
TARGET = "127.0.0.1:9464"  # as Prometheus is told to ask it
GRAFANA = "http://127.0.0.1:3000"  # where dashboard_url of alerts leads
JOB = "crewd"
PORTS = {"http": 80, "https": 443}
# Only what stands for itself in YAML, JSON, PromQL and the templates of annotations alike: nothing has to be escaped.
URL = re.compile(
    r"https?://([A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]{0,255})?"
)
LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,99}")
# Where the addresses are those of crewd and Grafana as others reach them; elsewhere, that of a container to itself.
ADDRESSED = ("prometheus/", "alertmanager/", "grafana/", "kubernetes/", RUNBOOKS)
LABELLED = ("prometheus/", "alertmanager/", "grafana/", "kubernetes/", "container/", RUNBOOKS)
_MATCHER = re.compile(r'(\bjob\s*=\s*\\?")' + JOB + r'(?=\\?")')
_JSON = re.compile(r'("job"\s*:\s*")' + JOB + r'(?=")')
_YAML = re.compile(r"^(\s*(?:-\s+)?(?:job|job_name):\s+)[\"']?" + JOB + r"[\"']?(?=\s*(?:#.*)?$)", re.MULTILINE)


@dataclass(frozen=True)
class Fit:
    """What is put in place of the shipped addresses and job. UsageProblem: it cannot stand in every file."""

    url: str = ADDRESS
    job: str = JOB
    grafana: str = GRAFANA

    def __post_init__(self) -> None:
        for option, url, example in (
            ("--url", self.url, "crewd.example:9464"),
            ("--grafana", self.grafana, "grafana.example"),
        ):
            if not URL.fullmatch(url) or not _host_and_port(url):
                raise UsageProblem(f"{option} {url!r} is no address such as http://{example}")
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
    """Return the file `name` with the addresses and the job that are wanted; what is not UTF-8 as it is."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    if name.startswith(ADDRESSED):
        # At once: what is put in may be what another one is looked for by.
        wanted = {ADDRESS: fit.url.rstrip("/"), GRAFANA: fit.grafana.rstrip("/")}
        if name.startswith("prometheus/"):
            wanted[TARGET] = fit.target
        text = re.sub("|".join(map(re.escape, wanted)), lambda found: wanted[found[0]], text)
    if name.startswith(LABELLED) and fit.job != JOB:
        text = _MATCHER.sub(rf"\g<1>{fit.job}", text)
        text = _JSON.sub(rf"\g<1>{fit.job}", text)
        text = _YAML.sub(rf'\g<1>"{fit.job}"', text)  # quoted: 7 and null are jobs too
    return text.encode()


def _host_and_port(url: str) -> str:
    """Return `host:port`, "" where there is no such host or port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # no port, or no IPv6 address in the brackets
        return ""
    if not parts.hostname or port == 0:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or PORTS[parts.scheme]}"
