"""The whole chain on real parts: crewd, Prometheus, Alertmanager, and whoever is told.

`python -m tests.deploy.chain` runs it with the times that are shipped, and says what took how long: a quarter of an
hour. With --without-prometheus Prometheus is killed instead of the rest: six minutes. With --pictures
docs/images/alerts-* are taken anew, which needs chromium: a quarter of an hour.
"""

import argparse
import contextlib
import io
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.text import Text

from tests.deploy import monitoring
from tests.deploy.monitoring import ask, eventually, free_port
from tests.end_to_end.running import Crewd, Worker
from tests.fakes.receiver import Receiver

IMAGES = Path(__file__).parents[2] / "docs/images"
INSTANCE = "127.0.0.1:9464"
# Of the pictures: run and task, and the crew of each.
CREWS = {
    "night/migrate": "nightly",
    "night/explore": "nightly",
    "night/build": "nightly",
    "night/test": "nightly",
    "release/deploy": "release",
    "release/notes": "release",
    "review/read": "review",
    "review/write": "review",
}
UNHURRIED = {"CREWD_HEARTBEAT__WARN_AFTER": "10s", "CREWD_HEARTBEAT__STALE_AFTER": "20s",
             "CREWD_HEARTBEAT__DEAD_AFTER": "1m", "CREWD_HEARTBEAT__HUNG_AFTER": "1h"}  # fmt: skip


class Chain:
    """crewd, scraped by Prometheus, which tells Alertmanager, which tells a pager and a ticket system: `receiver`.

    The times of the rules are divided by `faster`; `interval` is that of scrapes and rules (shipped: None), `wait`
    the times of the routes. `settings` are environment variables of crewd.
    """

    def __init__(
        self,
        folder: Path,
        receiver: Receiver,
        faster: int = 1,
        interval: str | None = None,
        wait: dict[str, str] | None = None,
        **settings: str,
    ) -> None:
        self.receiver, self._folder, self._settings = receiver, folder, settings
        self.beats = folder / "beats"
        self.beats.mkdir()
        (folder / "project").mkdir()
        self._port = free_port()
        self._routes = monitoring.alertmanager_settings(receiver.url, wait)
        self.alertmanager = monitoring.start_alertmanager(folder, self._routes)
        place = self.alertmanager.url.removeprefix("http://")
        scrape = monitoring.prometheus_settings(f"127.0.0.1:{self._port}", INSTANCE, place, interval)
        rules = monitoring.shipped_rules()
        if faster > 1:
            rules = {name: monitoring.hastened(file, faster) for name, file in rules.items()}
        self.crewd = self.start_crewd()
        try:
            self.crewd.wait_ready()  # before it is scraped: else CrewdDown might be true from the beginning
            self.prometheus = monitoring.start_prometheus(folder, scrape, rules)
        except BaseException:
            self.crewd.stop()
            self.alertmanager.close()
            raise

    def start_crewd(self) -> Crewd:
        """Start crewd, or start it again, at the address that is scraped."""
        options = ("--beat-root", str(self.beats), "--port", str(self._port))
        self.crewd = Crewd(self._folder / "state", self._folder / "project", *options, **self._settings)
        return self.crewd

    def restart_alertmanager(self) -> None:
        """Start Alertmanager again, with what it stored, at its address."""
        port = int(self.alertmanager.url.rpartition(":")[2])
        self.alertmanager = monitoring.start_alertmanager(self._folder, self._routes, port)

    def wait_ready(self) -> None:
        self.prometheus.wait_ready()
        self.alertmanager.wait_ready()

    def told(self, alert: str) -> list[tuple[str, str]]:
        """Who was told of an alert, and what, in order: ("pager", "firing"), ..."""
        return [(who, each["status"]) for who, each in self._messages() if each["labels"]["alertname"] == alert]

    def message(self, alert: str) -> dict[str, Any]:
        """What was told of an alert last."""
        return [each for _, each in self._messages() if each["labels"]["alertname"] == alert][-1]

    def _messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for path, body in zip(self.receiver.paths, self.receiver.got, strict=False):
            for each in body["alerts"]:
                yield path.strip("/"), each

    def states(self) -> dict[str, str]:
        """The state of each alert in Alertmanager by its name: active, or suppressed."""
        alerts = ask(f"{self.alertmanager.url}/api/v2/alerts") or ()
        return {each["labels"]["alertname"]: each["status"]["state"] for each in alerts}

    def firing(self) -> set[str]:
        """The names of the alerts that fire in Prometheus."""
        answer = ask(f"{self.prometheus.url}/api/v1/alerts")
        alerts = answer["data"]["alerts"] if answer else ()
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def fired_together(self, one: str, other: str) -> bool:
        """Whether two alerts fired at one time, within the last two minutes."""
        fires = 'ALERTS{{alertstate="firing", alertname="{}"}}'.format
        both = f"count_over_time(({fires(one)} and on () {fires(other)})[2m:1s])"
        answer = ask(f"{self.prometheus.url}/api/v1/query?{urlencode({'query': both})}")
        return bool(answer and answer["data"]["result"])

    def close(self) -> None:
        self.crewd.stop()
        self.prometheus.close()
        self.alertmanager.close()


@contextlib.contextmanager
def chain(folder: Path, *more: Any, **settings: Any) -> Iterator[Chain]:
    """The chain, ready, until the end of the block."""
    with Receiver() as receiver:
        made = Chain(folder, receiver, *more, **settings)
        try:
            made.wait_ready()
            yield made
        finally:
            made.close()


def measure(folder: Path) -> None:
    """Let one worker die, then crewd, then Alertmanager, then Prometheus, all with the times that are shipped."""
    with chain(folder) as made:
        worker, other = Worker(made.beats, "night", "one"), Worker(made.beats, "night", "other")
        try:
            eventually(lambda: made.crewd.level("night", "one") == "healthy", "crewd sees the worker")
            worker.end()
            since = Stopwatch("the worker dies")
            since.until(lambda: made.crewd.level("night", "one") == "dead", "crewd says so")
            since.until(lambda: "CrewdWorkerDead" in made.firing(), "CrewdWorkerDead fires")
            since.until(lambda: made.told("CrewdWorkerDead"), "the pager is told")

            made.crewd.kill()
            since = Stopwatch("crewd is killed")
            since.until(lambda: "CrewdDown" in made.firing(), "CrewdDown fires")
            since.until(lambda: made.told("CrewdDown"), "the pager is told")
            since.until(lambda: made.states().get("CrewdWorkerDead") == "suppressed", "CrewdWorkerDead is inhibited")
            since.until(lambda: "CrewdWorkerDead" not in made.firing(), "CrewdWorkerDead fires no more")
            time.sleep(90)  # longer than the pager waits for news of a group
            since.say(f"told of CrewdWorkerDead so far: {made.told('CrewdWorkerDead')}")

            made.start_crewd()
            since = Stopwatch("crewd is started again")
            since.until(lambda: "CrewdDown" not in made.firing(), "CrewdDown fires no more")
            since.until(lambda: ("pager", "resolved") in made.told("CrewdDown"), "the pager is told so")
            since.until(lambda: made.states().get("CrewdWorkerDead") == "active", "CrewdWorkerDead fires as before")

            made.alertmanager.close()
            made.restart_alertmanager()
            since = Stopwatch("Alertmanager is stopped and started")
            since.until(lambda: made.states().get("CrewdWorkerDead") == "active", "it knows CrewdWorkerDead again")
            time.sleep(90)
            since.say(f"told of CrewdWorkerDead so far: {made.told('CrewdWorkerDead')}")

            for each in (worker, other):
                each.seq += 10
                each.beat(status="failed", pid=None)
            since = Stopwatch("the run ends")
            since.until(lambda: "CrewdWorkerDead" not in made.firing(), "CrewdWorkerDead fires no more")
            since.until(lambda: made.told("CrewdWorkerDead")[-1] == ("pager", "resolved"), "the pager is told so")
        finally:
            worker.end()
            other.end()


def measure_without_prometheus(folder: Path) -> None:
    """Let a worker die, and then Prometheus."""
    with chain(folder) as made:
        worker, other = Worker(made.beats, "night", "one"), Worker(made.beats, "night", "other")
        try:
            eventually(lambda: made.crewd.level("night", "one") == "healthy", "crewd sees the worker")
            worker.end()
            eventually(lambda: made.told("CrewdWorkerDead"), "the pager is told", 300)
            made.prometheus.process.kill()
            since = Stopwatch("Prometheus is killed")
            since.until(
                lambda: made.told("CrewdWorkerDead")[-1] == ("pager", "resolved"), "the pager hears an all-clear"
            )
        finally:
            worker.end()
            other.end()


def take_pictures(folder: Path, images: Path, faster: int) -> None:
    """Show the alerts of three crews on the page of Prometheus, and as amtool tells them.

    With the shipped times, else the rules on the picture are not those of anybody; `faster` is for a try.
    """
    from tests.browser.chrome import Chrome

    interval, wait = (None, None) if faster == 1 else ("1s", {"group_wait": "0s"})
    wanted = {"CrewdWorkerDead", "CrewdWorkersStale", *({"CrewdWaitingHuman"} if faster == 1 else ())}
    with chain(folder, faster, interval, wait, **UNHURRIED) as made, contextlib.ExitStack() as stack:
        workers = {name: Worker(made.beats, *name.split("/")) for name in CREWS}
        for worker in workers.values():
            stack.callback(worker.end)
        beating(workers, 5)
        workers["night/migrate"].end()
        began = time.monotonic()
        while not wanted <= set(made.states()):
            assert time.monotonic() - began < 1200, made.states()
            beating(workers, 1)
        chrome = Chrome(folder / "chromium")
        stack.callback(chrome.close)
        chrome.open(f"{made.prometheus.url}/classic/alerts")
        chrome.wait_for("CrewdWorkerDead")
        chrome.js("document.querySelector('#inactiveAlerts').parentElement.click()")
        chrome.js("document.querySelector('button.show-annotations').click()")
        chrome.js("""[...document.querySelectorAll('tr.alert_header')].find(
            row => row.innerText.includes('CrewdWorkerDead')).click()""")
        # The rule itself is in alerts.yml.
        chrome.js("document.querySelectorAll('.alert_details pre').forEach(rule => rule.remove())")
        chrome.js("document.activeElement.blur()")
        time.sleep(1)  # it slides
        chrome.shoot(images / "alerts-prometheus.png")
        (images / "alerts-alertmanager.svg").write_text(told_by_amtool(folder, made.alertmanager.url))


def told_by_amtool(folder: Path, alertmanager: str) -> str:
    """Draw what amtool says of the alerts: Debian's Alertmanager has no page."""
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True, highlight=False)
    for words in (["alert", "query"], ["alert", "query", "--inhibited"]):
        command = [str(monitoring.AMTOOL), *words, f"--alertmanager.url={alertmanager}", "--date.format=15:04:05"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"HOME": str(folder)})
        console.print(Text(f"$ amtool {' '.join(words)}", "bold cyan"))
        for line in done.stdout.splitlines():
            console.print(Text(line.rstrip(), "bold" if line.startswith("Alertname") else ""))
        console.print()
    return console.export_svg(title="amtool", unique_id="crewd-amtool")


def beating(workers: dict[str, Worker], seconds: int) -> None:
    """Let who is well give signs of life for a while, and one wait for a person; one says nothing any more."""
    for _ in range(seconds):
        for name, worker in workers.items():
            if name == "release/deploy":
                worker.beat(crew="release", status="waiting", waiting="human")
            elif worker.process.poll() is None and (name != "night/explore" or worker.seq < 5):
                worker.beat(crew=CREWS[name], progress=[name, worker.seq])
        time.sleep(1)


class Stopwatch:
    """Says what happened how long after something else."""

    def __init__(self, what: str) -> None:
        self._began = time.monotonic()
        self.say(what)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        eventually(condition, what, 900)
        self.say(what)

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.0f} s  {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true", help="take the pictures instead")
    parser.add_argument("--without-prometheus", action="store_true", help="kill Prometheus instead of all else")
    parser.add_argument("--faster", type=int, default=1, help="divide the times of the rules, for a try at pictures")
    parser.add_argument("--images", type=Path, default=IMAGES, help="where pictures go")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if wanted.pictures:
            take_pictures(Path(folder), wanted.images, wanted.faster)
        elif wanted.without_prometheus:
            measure_without_prometheus(Path(folder))
        else:
            measure(Path(folder))


if __name__ == "__main__":
    main()
