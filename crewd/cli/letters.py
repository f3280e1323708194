"""Dead letters: asked for, found by what a person calls them, laid out."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from crewd.cli.client import Answer, Daemon, Place, ask
from crewd.cli.picture import API
from crewd.cli.screen import Line, Part, columns
from crewd.cli.text import clean, count
from crewd.cli.times import when
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

STATES = ("open", "redriven", "discarded")
LIMIT = 1000
ERROR_MAX = 100
RUNS_MAX = 3


def take_letters(place: Place, states: Sequence[str], crew: str | None = None, limit: int = LIMIT) -> Answer:
    """Ask for dead letters: those of each state in turn, the newest first. Raises DaemonUnreachable."""

    def online(daemon: Daemon) -> list[dict[str, Any]]:
        found = []
        for state in states:
            query = {"state": state, "crew": crew, "limit": min(limit, LIMIT)}
            told = daemon.json(f"{API}/deadletters", query)
            found += told["dead_letters"] if "dead_letters" in told else told["deadletters"]
        return found

    def offline(reader: "Reader") -> list[dict[str, Any]]:
        from crewd.cli.past_managed import past_letter

        return [
            past_letter(each, place.redactor)
            for state in states
            for each in reader.letters(state)
            if crew is None or each.crew == crew
        ]

    answer = ask(place, online, offline)
    letters = [_timed(letter) for letter in answer.body]
    newest_first = sorted(letters, key=lambda letter: letter["at"] or "", reverse=True)
    return Answer(answer.source, answer.as_of, newest_first[:limit], answer.notice)


def find_letter(letters: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Find a letter by its key, or the newest of a task by RUN/TASK. Raises NothingMatched."""
    for letter in letters:
        if letter["key"] == name:
            return letter
    for letter in letters:
        if f"{letter['run_id']}/{letter['task_id']}" == name:
            return letter
    raise NothingMatched(f"no dead letter {name!r}; `crewd deadletter list` names them")


def rows(letters: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """Lay letters out, one a line."""
    if not letters:
        yield [("no dead letters", "faint")]
        return
    yield from columns(
        [
            [
                (clean(letter["key"]), "head"),
                (clean(f"{letter['run_id']}/{letter['task_id']}"), ""),
                (letter["state"] if letter["state"] != "open" else "", "faint"),
                (clean(letter["error_class"] or letter["reason"]), "alert"),
                (f"{letter['attempts']} tried", ""),
                (letter["at"] or "", "faint"),
                (clean(letter["error"] or "", ERROR_MAX), "faint"),
            ]
            for letter in letters
        ]
    )


def grouped(letters: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put letters of one cause together, most letters first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for letter in letters:
        groups.setdefault(letter["fingerprint"] or "", []).append(letter)
    found = [
        {
            "fingerprint": fingerprint or None,
            "letters": len(each),
            "error_class": each[0]["error_class"],
            "reason": each[0]["reason"],
            "error": each[0]["error"],
            "newest": max(letter["at"] or "" for letter in each) or None,
            "runs": sorted({letter["run_id"] for letter in each}),
            "keys": [letter["key"] for letter in each],
        }
        for fingerprint, each in groups.items()
    ]
    return sorted(found, key=lambda group: -group["letters"])


def group_rows(groups: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """Lay groups out, one a line."""
    if not groups:
        yield [("no dead letters", "faint")]
        return
    yield from columns([_group_row(group) for group in groups])


def _timed(letter: dict[str, Any]) -> dict[str, Any]:
    """Write the times of a letter as everywhere else."""
    return {**letter, **{name: when(letter.get(name)) for name in ("at", "settled_at")}}


def _group_row(group: dict[str, Any]) -> list[Part]:
    runs = group["runs"]
    named = ", ".join(runs[:RUNS_MAX]) + (f" and {len(runs) - RUNS_MAX} more" if len(runs) > RUNS_MAX else "")
    return [
        (count(group["letters"], "letter"), "head"),
        (clean(group["fingerprint"] or "-"), ""),
        (clean(group["error_class"] or group["reason"]), "alert"),
        (clean(named), ""),
        (group["newest"] or "", "faint"),
        (clean(group["error"] or "", ERROR_MAX), "faint"),
    ]


def whole(letter: dict[str, Any]) -> Iterator[Line]:
    """Lay one letter out with every attempt."""
    from crewd.cli.attempt_lines import attempts

    yield [(clean(letter["key"]), "head"), (clean(f"  {letter['run_id']} / {letter['task_id']}"), "")]
    facts = [
        ("state", letter["state"]),
        ("given up for", letter["reason"]),
        ("error", ": ".join(each for each in (letter["error_class"], letter["error"]) if each)),
        ("attempts", str(letter["attempts"])),
        ("at", letter["at"]),
        ("fingerprint", letter["fingerprint"]),
        ("settled", " by ".join(each for each in (letter["settled_at"], letter["settled_by"]) if each)),
        ("note", letter["note"]),
        *letter["evidence"].items(),
    ]
    yield from columns([[("  " + clean(name), "faint"), (clean(str(text)), "")] for name, text in facts if text])
    yield from attempts([{"task_id": letter["task_id"], "attempts": letter["history"]}], all_of_them=True)
    tails = [each["tail"] for each in letter["history"] if each.get("tail")]  # not told without a token
    if tails:
        yield []
        yield [("its last words", "head")]
        yield from ([("  " + clean(line), "")] for line in tails[-1].splitlines())
    if letter["state"] == "open":
        yield []
        yield [(f"crewd deadletter redrive {clean(letter['key'])}   tries it again with a new budget", "faint")]
