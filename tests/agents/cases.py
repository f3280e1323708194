"""What is true of every genuine run of an agent command line, and why: the table against which readers are judged.

The runs lie packed in tests/formats (tests/genuine_agents.py). Nothing here was taken
from a reader: what was used is what the model server sent, what the program left on disk, and what its words say.

How each program counts, and what a killed run can tell:

- **claude** tells `usage` for one run and `total_cost_usd` for the whole session. A message's `usage.output_tokens`
  on stdout is what it was when the message began (1); with partial messages `message_delta` tells the end. One
  message comes as several events of one id. `usage` leaves out the last message where a budget ended the run,
  `modelUsage` does not, and only the latter agrees with the cost. A killed run knows the messages that it began; the
  file of its session knows their ends as well.
- **codex** tells usage once, at the end, for the whole thread; what came from a cache is within `input_tokens`, what
  was reasoned is within `output_tokens`. A killed run tells nothing; its rollout does, in `token_usage_record`.
- **gemini** tells usage of one run; what came from a cache is within `input_tokens`, and what was thought is *not*
  within `output_tokens`, only within `total_tokens` (26,875 = 26,698 + 145 + 32). Thinking is output: it is generated
  and billed as such, and the other three count it there. A killed run tells nothing; the file of its session does.
- **pi** tells usage of each message at its end, cache apart, with its cost. A killed run knows those that ended.
"""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from crewd.model.failure import ErrorClass, Exit
from crewd.model.run import Usage
from tests.genuine_agents import CORPUS

WALL = 1_795_224_000.0  # 2026-11-21T01:20:00Z: where runs that were not recorded begin

Stream = Literal["stdout", "stderr", "session"]

AUTH = ErrorClass.AUTH_ERROR
CONFIG = ErrorClass.CONFIG_INVALID
CONTEXT = ErrorClass.CONTEXT_EXHAUSTED
CRASH = ErrorClass.WORKER_CRASH
KILLED = ErrorClass.WORKER_KILLED
LIMITED = ErrorClass.RATE_LIMITED
PROVIDER = ErrorClass.PROVIDER_ERROR
TASK = ErrorClass.TASK_ERROR


@dataclass(frozen=True)
class Heard:
    """One line, and when it was there to be heard."""

    at: float  # seconds since the program was started
    stream: Stream
    line: bytes


@dataclass(frozen=True)
class Refusals:
    """Requests that were refused or broken, and that the program said it would repeat."""

    count: int
    error_class: ErrorClass
    first_wait: float | None = None  # seconds: the longer of what provider and program say; None: nobody said


@dataclass(frozen=True)
class Case:
    """One run: what it printed, how it ended, and what is true of it."""

    name: (
        str  # "claude/ok"; "claude/resume.2" is the run that resumed "claude/resume", "claude/made/loop" made by hand
    )
    ends: ErrorClass | None  # None: it succeeded
    why: str
    session: str = ""
    model: str = ""
    usage: Usage | None = None  # of this attempt, with everything that can be read; None: nobody can know, or nothing
    tools: tuple[int, int, int] = (0, 0, 0)  # begun, ended, denied
    repeats: int | None = None  # of the latest call with the same input; None: 1, or 0 where there was no call
    refusals: Refusals | None = None
    told: bool = True  # it told how its task ended
    retry_after: float | None = None  # with which its failure is told, where the words say it
    looped: bool = False
    also_ends: tuple[ErrorClass, ...] = ()  # other classes that can be defended
    also_usage: tuple[Usage, ...] = ()  # other figures that can be defended
    made: tuple[Heard, ...] | None = None  # None: recorded
    made_exit: Exit | None = None
    base: Usage | None = None  # what its session had used before

    @property
    def profile(self) -> str:
        return self.name.partition("/")[0]

    @property
    def usage_printed(self) -> Usage | None:
        """What stdout and stderr alone tell of its usage."""
        return None if self.profile in ("codex", "gemini") and not self.told else self.usage

    @property
    def model_printed(self) -> str:
        return "" if self.profile == "codex" else self.model

    @property
    def exit(self) -> Exit:
        if self.made_exit is not None:
            return self.made_exit
        if self.name.endswith(".2"):
            return Exit(code=_json(self._folder / "resume.exit.json")["rc"])
        record = _json(self._folder / "exit.json")
        return Exit(record["exit_code"], signal.Signals[record["signal"]] if record["signal"] else None)

    @property
    def wall(self) -> float:
        """When the program was started."""
        if self.made is not None:
            return WALL
        record = _json(self._folder / "exit.json")
        return float(record["started_at"] + (record["seconds"] if self.name.endswith(".2") else 0.0))

    @property
    def seconds(self) -> float:
        """How long the program ran."""
        if self.made is None and not self.name.endswith(".2"):
            return float(_json(self._folder / "exit.json")["seconds"])
        return max([heard.at for heard in self.heard], default=0.0) + 0.1

    @property
    def heard(self) -> tuple[Heard, ...]:
        """Every line in the order in which it could be heard."""
        return self.made if self.made is not None else _recorded(self.name)

    @property
    def looks(self) -> list[dict[str, Any]]:
        """What /proc showed of it, and when (`t`, seconds)."""
        return [] if self.made is not None or self.name.endswith(".2") else _json(self._folder / "proc.json")

    @property
    def _folder(self) -> Path:
        return _folder(self.name)


def _folder(name: str) -> Path:
    return CORPUS / name.removesuffix(".2")


@cache
def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def _recorded(name: str) -> tuple[Heard, ...]:
    folder, is_second = _folder(name), name.endswith(".2")
    if is_second:  # no timings were kept: a line every 50 ms, in order
        stdout = _evenly(folder / "resume.stdout.jsonl", "stdout")
        stderr = _evenly(folder / "resume.stderr.txt", "stderr")
    else:
        stdout = _timed(folder / "stdout.jsonl", folder / "timing.tsv", "stdout")
        stderr = _timed(folder / "stderr.txt", folder / "stderr_timing.tsv", "stderr")
    session = list(_session(folder, is_second))
    return tuple(sorted([*stdout, *stderr, *session], key=lambda heard: heard.at))  # stable: streams keep their order


def _timed(lines: Path, timing: Path, stream: Stream) -> list[Heard]:
    times = [float(row.split("\t")[1]) for row in timing.read_text(encoding="utf-8").splitlines()]
    texts = [line for line in lines.read_bytes().split(b"\n") if line]
    assert len(times) == len(texts), (lines, len(times), len(texts))
    return [Heard(at, stream, line) for at, line in zip(times, texts, strict=True)]


def _evenly(lines: Path, stream: Stream) -> list[Heard]:
    texts = [line for line in lines.read_bytes().split(b"\n") if line]
    return [Heard(0.5 + number * 0.05, stream, line) for number, line in enumerate(texts)]


SESSIONS = {
    "claude": "home/.claude/projects/*/*.jsonl",
    "codex": "home/.codex/sessions/*/*/*/*.jsonl",
    "gemini": "home/.gemini/tmp/*/chats/*.jsonl",
    "pi": "home/.pi/agent/sessions/*/*.jsonl",
}


def _session(folder: Path, is_second: bool) -> Iterator[Heard]:
    """Lines of the session's file, by the times that they carry themselves; a line without one has that before it."""
    record = _json(folder / "exit.json")
    ended = float(record["seconds"])
    for path in sorted(folder.glob(SESSIONS[folder.parent.name])):
        at = 0.0
        for line in path.read_bytes().split(b"\n"):
            if not line:
                continue
            told = json.loads(line)
            written = told.get("timestamp") or told.get("startTime") or told.get("$set", {}).get("lastUpdated")
            if isinstance(written, str):
                at = datetime.fromisoformat(written).timestamp() - record["started_at"]
            if (at > ended) == is_second:
                yield Heard(max(0.0, at - ended if is_second else at), "session", line)


# --------------------------------------------------------------------------------------------------------------------
# What was used. The server sent every answer with the same figures: 13,349 tokens in, 11,264 of them from a cache,
# and 88 out for a tool call or 57 for words (16 of them thought, except to gemini, where those come on top); to
# claude 37 in, 11,264 from a cache, 2,048 into it.

CLAUDE_WORDS = Usage(37, 57, 11_264, 2_048, 0.0120252)
CLAUDE_TOOL_AND_WORDS = Usage(74, 145, 22_528, 4_096, 0.0245154)
CLAUDE_THREE_TOOLS = Usage(111, 264, 33_792, 6_144, 0.0374706)
CLAUDE_BEGAN = Usage(37, 1, 11_264, 2_048)  # one message of which only the beginning was told
CLAUDE_TOOL = Usage(37, 88, 11_264, 2_048)  # the same message, as its session's file tells it
CLAUDE_NOTHING = Usage(0, 0, 0, 0, 0.0)
CODEX_WORDS = Usage(2_085, 57, 11_264)
CODEX_TOOL = Usage(2_085, 88, 11_264)
CODEX_TOOL_AND_WORDS = Usage(4_170, 145, 22_528)
GEMINI_WORDS = Usage(2_085, 57 + 16, 11_264)
GEMINI_TOOL = Usage(2_085, 88 + 16, 11_264)
GEMINI_TOOL_AND_WORDS = Usage(4_170, 145 + 32, 22_528)
PI_WORDS = Usage(2_085, 57, 11_264, 0, 0.0033254)
PI_TOOL = Usage(2_085, 88, 11_264, 0, 0.0033874)
PI_TOOL_AND_WORDS = Usage(4_170, 145, 22_528, 0, 0.0067128)

CLAUDE_MODEL, CODEX_MODEL, GEMINI_MODEL, PI_MODEL = (
    "claude-sonnet-4-5-20250929",
    "gpt-5.1-codex",
    "gemini-2.5-pro",
    "mock-model",
)


def _claude(name: str, session: str, ends: ErrorClass | None, why: str, **more: Any) -> Case:
    # The synthetic message of a failure says model "<synthetic>": the session's model stays what init said.
    return Case(f"claude/{name}", ends, why, session=session, model=CLAUDE_MODEL, **more)


def _codex(name: str, session: str, ends: ErrorClass | None, why: str, **more: Any) -> Case:
    # The model stands in the rollout alone, which was not kept for every case.
    return Case(f"codex/{name}", ends, why, session=f"01a1fb{session}", **more)


def _gemini(name: str, session: str, ends: ErrorClass | None, why: str, **more: Any) -> Case:
    return Case(f"gemini/{name}", ends, why, session=session, model=GEMINI_MODEL if session else "", **more)


def _pi(name: str, session: str, ends: ErrorClass | None, why: str, **more: Any) -> Case:
    return Case(f"pi/{name}", ends, why, session=f"01a1fb{session}", model=PI_MODEL, **more)


CAPPED = "the recorder's own SIGTERM ended it before it said how its task did"

CLAUDE = (
    _claude(
        "401",
        "bc10c9a3-b18d-4f57-aba8-4423ea144f90",
        KILLED,
        f"{CAPPED}, during its 10th wait; what should have ended it is the first refusal",
        refusals=Refusals(10, AUTH, 0.575),
        told=False,
    ),
    _claude(
        "401_maxretries",
        "b346cd2e-bf99-4270-a6af-b96f5c89fd1c",
        AUTH,
        "result says success, and is_error with api_error_status 401",
        usage=CLAUDE_NOTHING,
        refusals=Refusals(1, AUTH, 0.606),
    ),
    _claude(
        "429",
        "1211ecdb-47c6-4900-9ecf-a45cbd2035aa",
        LIMITED,
        "result says success, and is_error with api_error_status 429 after ten repetitions",
        usage=CLAUDE_NOTHING,
        refusals=Refusals(10, LIMITED, 4.465),
    ),
    _claude(
        "429_maxretries",
        "7bbdf464-e3bc-472c-b322-9233c5246fdd",
        LIMITED,
        "is_error with api_error_status 429, without a repetition: how long to wait is not printed",
        usage=CLAUDE_NOTHING,
    ),
    _claude(
        "500",
        "cec4e748-c354-48ff-af16-b31e1fee6239",
        PROVIDER,
        "is_error with api_error_status 500",
        usage=CLAUDE_NOTHING,
        refusals=Refusals(10, PROVIDER, 0.580),
    ),
    _claude(
        "529",
        "c1465c2b-5181-48bf-bb37-92ccc63fca15",
        PROVIDER,
        "overloaded is the provider's trouble, not this account's limit: api_error_status 529",
        usage=CLAUDE_NOTHING,
        refusals=Refusals(10, PROVIDER, 0.541),
    ),
    _claude(
        "api_timeout",
        "8b252f4f-dca9-4e6c-9601-f553694e2c43",
        KILLED,
        f"{CAPPED}, inside a hung stream; 143, no result",
        told=False,
    ),
    _claude(
        "ctx",
        "59c911bf-cacb-4534-bebb-c3550922f168",
        CONTEXT,
        "terminal_reason prompt_too_long; nothing was repeated",
        usage=CLAUDE_NOTHING,
    ),
    _claude(
        "editperm",
        "e93da5fe-c4fd-4131-b270-9d63c6b9bcaa",
        TASK,
        "exit 0 and success, and Write was denied: permission_denials is not empty",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 1),
    ),
    _claude(
        "hang",
        "c682a894-10d9-4850-ada2-0e9b885ac887",
        None,
        "after 301 s of silence it asked again without a stream, and was answered; two requests, of which `usage` "
        "counts 6 tokens out and `modelUsage` 15: the cost is that of 15",
        usage=Usage(74, 15, 22_528, 4_096, 0.0225654),
    ),
    _claude(
        "hdr_hang",
        "47abd500-50b3-497e-94c5-1cfba705aa22",
        KILLED,
        f"{CAPPED}; one api_retry without a status: the provider did not answer",
        refusals=Refusals(1, PROVIDER, 0.560),
        told=False,
    ),
    _claude(
        "long",
        "1c2d860f-4c82-4232-8510-967f5b9e74c7",
        None,
        "a command of 60 s, with a heartbeat every 30 s",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _claude(
        "max_budget",
        "cea6e0c3-ab7c-47a5-b050-cd8e3a7c633f",
        TASK,
        "its own --max-budget-usd ended it: no quota of the account, which would pause everyone; three messages were "
        "sent (111 in, 264 out), `usage` counts two of them",
        usage=CLAUDE_THREE_TOOLS,
        tools=(3, 2, 0),
        repeats=3,
    ),
    _claude(
        "max_turns",
        "dcb07bb3-9825-451e-be28-b400d5ecca19",
        TASK,
        "its own --max-turns ended it: error_max_turns",
        usage=CLAUDE_THREE_TOOLS,
        tools=(3, 3, 0),
        repeats=3,
    ),
    _claude(
        "no_auth",
        "5c48551d-81df-4957-bf2f-4964faa365ca",
        AUTH,
        'assistant.error authentication_failed, "Not logged in", without any status',
        usage=CLAUDE_NOTHING,
    ),
    _claude(
        "ok",
        "295a5dd9-cc4e-4100-8885-a43160091b64",
        None,
        "result with is_error false, nothing denied, exit 0",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _claude(
        "ok_partial",
        "167586c7-1b89-4e69-887c-0985a78cccde",
        None,
        "the same with partial messages: every call and every message is told twice and counts once",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _claude(
        "otel",
        "5d2769ce-4dd2-4bc6-821e-0f57a305eb24",
        None,
        "as ok",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _claude(
        "perm",
        "4dd9103d-726c-463c-8d33-6cb280c75602",
        TASK,
        "exit 0 and success, and Bash was denied",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 1),
    ),
    _claude(
        "perm_dontask",
        "3b89acdc-2422-42b5-81c4-c3da2b205ad9",
        TASK,
        "exit 0 and success, and Bash was denied by mode",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 1),
    ),
    _claude(
        "perm_prompts_none",
        "848bd125-865a-41ab-a26e-22771780c5cc",
        TASK,
        "exit 0 and success, and Bash was denied because nobody can be asked",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 1),
    ),
    _claude(
        "resume",
        "7d5f81c9-3631-4314-bd9b-4af6750f6396",
        None,
        "as ok: the run that is resumed next",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _claude(
        "resume.2",
        "7d5f81c9-3631-4314-bd9b-4af6750f6396",
        None,
        "`usage` is of this run; total_cost_usd 0.0365406 is of the session, of which 0.0245154 was spent before",
        usage=CLAUDE_WORDS,
        base=CLAUDE_TOOL_AND_WORDS,
    ),
    _claude(
        "retry_cfg",
        "5602cc91-d023-4ed4-8c8f-4c59cc1f8f27",
        PROVIDER,
        "api_error_status 500 after two repetitions",
        usage=CLAUDE_NOTHING,
        refusals=Refusals(2, PROVIDER, 0.532),
    ),
    _claude(
        "sigkill_tool",
        "676df095-a3ca-4b30-8c13-ab7e28793281",
        KILLED,
        "SIGKILL inside a tool: no result",
        usage=CLAUDE_BEGAN,
        also_usage=(CLAUDE_TOOL,),
        tools=(1, 0, 0),
        told=False,
    ),
    _claude(
        "sigterm_stream",
        "a6ae283f-6d93-4cdb-ae25-2d4be739ca8a",
        KILLED,
        "143 and no result: SIGTERM inside a stream",
        told=False,
    ),
    _claude(
        "sigterm_tool",
        "15229ad3-da46-4de4-aabc-6601c2e29f4b",
        KILLED,
        "143 and no result: SIGTERM inside a tool, which it killed and told the end of; the file of its session also "
        "tells the cost so far",
        usage=CLAUDE_BEGAN,
        also_usage=(CLAUDE_TOOL, Usage(37, 88, 11_264, 2_048, 0.0124902)),
        tools=(1, 1, 0),
        told=False,
    ),
    _claude(
        "slow",
        "93930c41-b91b-4474-9df9-aa41685a29b2",
        None,
        "a token each second, nothing shown for 21 s",
        usage=CLAUDE_WORDS,
    ),
    _claude(
        "slow_partial",
        "cb46a14b-19c1-4da7-9676-ab4c4f3dc337",
        None,
        "a token each second, each of them shown",
        usage=CLAUDE_WORDS,
    ),
    _claude(
        "sub_warning",
        "ccd643da-c70e-4c8e-bf58-d871f36e081b",
        None,
        "93 % of the subscription's limit are used: a warning, which refuses nothing",
        usage=CLAUDE_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
)

_KNOWN = {"model": CODEX_MODEL}  # the rollout is there

CODEX = (
    _codex(
        "401",
        "b2-c398-7d11-b852-913a207ef4c1",
        AUTH,
        '"unexpected status 401", five times repeated, turn.failed',
        refusals=Refusals(5, AUTH),
        **_KNOWN,
    ),
    _codex(
        "429",
        "b1-254b-7102-8965-33111b95f343",
        LIMITED,
        '"last status: 429 Too Many Requests"; it keeps the wait that it was told and never says how long',
        refusals=Refusals(5, LIMITED),
        **_KNOWN,
    ),
    _codex(
        "500",
        "b0-9b7e-7e63-83a2-58d94b3820ee",
        PROVIDER,
        '"high demand" is how it words a status 500',
        refusals=Refusals(5, PROVIDER),
        **_KNOWN,
    ),
    _codex("529", "b0-9a0f-7c42-a561-9be431668a04", PROVIDER, '"at capacity", told once and not repeated'),
    _codex(
        "ctx", "b3-1d00-7e62-9a29-dbe069fbab37", CONTEXT, '"ran out of room in the model\'s context window"', **_KNOWN
    ),
    _codex(
        "editperm",
        "b3-06de-7be1-89bb-b0d98db721d9",
        None,
        "the model's call could not be parsed (stderr), none was begun; the turn completed",
        usage=CODEX_TOOL_AND_WORDS,
    ),
    _codex(
        "hang",
        "b0-844f-7330-a3c8-a90261e22af7",
        KILLED,
        f"{CAPPED}, after two idle timeouts of 300 s",
        refusals=Refusals(2, PROVIDER),
        told=False,
    ),
    _codex(
        "hdr_hang",
        "b4-bd81-7510-9a09-0ce0a2f5c93d",
        KILLED,
        f"{CAPPED}; nothing at all was said in 400 s",
        told=False,
    ),
    _codex(
        "long",
        "b5-6acd-7873-b517-438f1d49201e",
        None,
        "one command of 60 s, for which the model was asked four times: the polls in its rollout are no calls",
        usage=Usage(4 * 2_085, 321, 4 * 11_264),
        tools=(1, 1, 0),
        **_KNOWN,
    ),
    _codex("no_auth", "bc-1389-7a22-9c67-2a6a0175cf3b", AUTH, '"Missing environment variable": no key'),
    _codex(
        "ok",
        "af-df07-77e0-a8f3-da6161c64ae5",
        None,
        "turn.completed and exit 0; the item of type error about model metadata is a warning of every run",
        usage=CODEX_TOOL_AND_WORDS,
        tools=(1, 1, 0),
        **_KNOWN,
    ),
    _codex(
        "otel",
        "b7-e742-7fc0-b130-7debd8aed874",
        None,
        "as ok",
        usage=CODEX_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _codex(
        "perm",
        "b2-ee81-7340-ba94-44db7c431716",
        TASK,
        'the sandbox denied the writing: "Read-only file system" in the command\'s output is its only sign',
        usage=CODEX_TOOL_AND_WORDS,
        tools=(1, 1, 1),
        **_KNOWN,
    ),
    _codex(
        "perm_workspace_write",
        "b4-bc3c-75b1-8e6f-465af53dde12",
        None,
        "inside the workspace writing is allowed; that curl failed, its own `; echo done` hid from everyone",
        usage=CODEX_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _codex(
        "resume",
        "b2-14f0-7ac0-afdb-6fd5fb222d37",
        None,
        "as ok: the run that is resumed next",
        usage=CODEX_TOOL_AND_WORDS,
        tools=(1, 1, 0),
        **_KNOWN,
    ),
    _codex(
        "resume.2",
        "b2-14f0-7ac0-afdb-6fd5fb222d37",
        None,
        "turn.completed counts the thread (40,047 in, 202 out), of which 26,698 in and 145 out were used before",
        usage=CODEX_WORDS,
        base=CODEX_TOOL_AND_WORDS,
        **_KNOWN,
    ),
    _codex(
        "retry_cfg",
        "b4-bae7-7650-b934-3ee7fcbcb078",
        PROVIDER,
        '"high demand", repeated once as configured',
        refusals=Refusals(1, PROVIDER),
    ),
    _codex(
        "sigkill_tool",
        "b7-fb91-7bf2-9337-5f162edeb82b",
        KILLED,
        "SIGKILL inside a command: only the rollout tells what was used",
        usage=CODEX_TOOL,
        tools=(1, 0, 0),
        told=False,
        **_KNOWN,
    ),
    _codex(
        "sigterm_stream",
        "b3-739d-7f82-bf75-3a1e29eb4bb5",
        KILLED,
        "dies by SIGTERM, and says nothing more",
        told=False,
    ),
    _codex(
        "sigterm_tool",
        "b7-e673-7170-8060-6b4badfffafc",
        KILLED,
        "dies by SIGTERM inside a command: only the rollout tells what was used",
        usage=CODEX_TOOL,
        tools=(1, 0, 0),
        told=False,
        **_KNOWN,
    ),
    _codex(
        "slow",
        "b3-f1f0-74f1-b37b-0455e7271ade",
        None,
        "a token each second, nothing shown for 21 s",
        usage=CODEX_WORDS,
    ),
)

GEMINI = (
    _gemini(
        "401",
        "8091865a-e245-4aa7-bc6b-94506a32de6b",
        AUTH,
        "code 401 UNAUTHENTICATED inside the message of the result; 145 is 401 mod 256 and no signal",
        usage=Usage(),
    ),
    _gemini(
        "429",
        "f24a34e2-0c50-4983-aa77-a027da35bd51",
        LIMITED,
        '"exceeded your current quota ... retry after 4s": a limit that ends by itself, whatever it says of billing; '
        "ten attempts failed, nine of them were to be repeated",
        usage=Usage(),
        refusals=Refusals(9, LIMITED, 5.594),
        retry_after=4.0,
    ),
    _gemini(
        "500",
        "526f7de3-a59e-44e7-8a5d-95e4e561c16d",
        PROVIDER,
        "code 500 INTERNAL after ten attempts",
        usage=Usage(),
        refusals=Refusals(9, PROVIDER),
    ),
    _gemini(
        "529",
        "a0176d5c-add9-42bc-8a63-fd01c831d704",
        KILLED,
        f"{CAPPED}; its exit is 0 all the same",
        refusals=Refusals(8, PROVIDER),
        told=False,
    ),
    _gemini(
        "ctx",
        "b8a11697-2939-44ab-8894-9593a1d122a8",
        CONTEXT,
        '"input token count (..) exceeds the maximum", which is code 400 like any other bad request',
        usage=Usage(),
    ),
    _gemini(
        "editperm",
        "7185a13d-0b86-4dfd-ac9b-52bbba3423ba",
        None,
        "the model called a tool with bad parameters, which failed: that is no denial",
        usage=GEMINI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _gemini(
        "hang",
        "5fe8df56-daf8-4098-9ab3-454744357bac",
        KILLED,
        f"{CAPPED}; exit 0 all the same; the words that come again at 306 s are told by no event",
        told=False,
    ),
    _gemini(
        "hdr_hang",
        "507147bb-2da2-4b8d-8fd3-2bfc2eb64971",
        KILLED,
        f"{CAPPED}; exit 0 all the same; five failed fetches",
        refusals=Refusals(5, PROVIDER),
        told=False,
    ),
    _gemini(
        "long",
        "e05ab1f8-4c8b-4e0e-88c2-70b281a61d2e",
        None,
        "a command of 60 s in silence",
        usage=GEMINI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _gemini(
        "no_auth",
        "",
        AUTH,
        "nothing on stdout; stderr asks for GEMINI_API_KEY, and 41 is its exit for that",
        told=False,
    ),
    _gemini(
        "ok",
        "10f49deb-ebcc-46cc-9f6f-3104b6dc88db",
        None,
        "result of status success, and exit 0",
        usage=GEMINI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _gemini(
        "otel",
        "c53c0490-74f1-4ae1-bfe4-141d5af47cf9",
        None,
        "as ok",
        usage=GEMINI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _gemini(
        "perm",
        "d7097033-2ab7-4ae5-a6b2-fd4bb1b7d9b6",
        TASK,
        "exit 0 and success, and the shell was kept from the model: tool_not_registered",
        usage=GEMINI_TOOL_AND_WORDS,
        tools=(1, 1, 1),
    ),
    _gemini(
        "resume",
        "1be585d0-6008-49b6-bfdb-5b0a3fd766a5",
        None,
        "as ok: the run that is resumed next",
        usage=GEMINI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _gemini(
        "resume.2",
        "1be585d0-6008-49b6-bfdb-5b0a3fd766a5",
        None,
        "stats are of this run alone",
        usage=GEMINI_WORDS,
        base=GEMINI_TOOL_AND_WORDS,
    ),
    _gemini(
        "sigkill_relaunch",
        "9b188f74-de3a-4105-89c7-bbd53444834e",
        KILLED,
        "SIGKILL of the launcher: no result",
        usage=GEMINI_TOOL,
        tools=(1, 0, 0),
        told=False,
    ),
    _gemini(
        "sigkill_tool",
        "e82eff4f-2a34-449e-ab18-5dc438765643",
        KILLED,
        "SIGKILL inside a command: no result",
        usage=GEMINI_TOOL,
        tools=(1, 0, 0),
        told=False,
    ),
    _gemini(
        "sigterm_relaunch",
        "e16dbf0d-a989-48dc-a0f0-13f77680dba5",
        KILLED,
        "the launcher does not hear SIGTERM; SIGKILL followed after 62 s",
        usage=GEMINI_TOOL,
        tools=(1, 0, 0),
        told=False,
    ),
    _gemini(
        "sigterm_stream",
        "a976828b-925f-455a-a328-5da5478071d7",
        KILLED,
        "SIGTERM inside a stream: exit 0 and no result",
        told=False,
    ),
    _gemini(
        "sigterm_tool",
        "2f42097e-541c-43eb-9582-01d7d8a59b09",
        KILLED,
        "SIGTERM inside a command: exit 0 and no result",
        usage=GEMINI_TOOL,
        tools=(1, 0, 0),
        told=False,
    ),
    _gemini(
        "slow",
        "dfa5f045-80e5-43a0-8d9e-f64adc16d801",
        None,
        "a token each second, each of them shown",
        usage=GEMINI_WORDS,
    ),
)

PI = (
    _pi("401", "b2-dd2a-71cf-8e1e-7e94662ddae4", AUTH, 'exit 0; "401: ...invalid_api_key", not repeated'),
    _pi(
        "429",
        "b6-ad60-75ad-b86f-45865f0d23ff",
        LIMITED,
        'exit 0; "429: ... try again in 4s", which it does not heed: it asks again after 2 s',
        refusals=Refusals(3, LIMITED, 4.0),
        retry_after=4.0,
    ),
    _pi(
        "500",
        "b0-a5b7-759b-a252-2bc2fa65d1ec",
        PROVIDER,
        'exit 0; "500: ..." four times',
        refusals=Refusals(3, PROVIDER, 2.0),
    ),
    _pi(
        "529",
        "b0-e7d6-75c8-8cfe-f883dc7845a7",
        PROVIDER,
        'exit 0; "503: ...server_is_overloaded" four times',
        refusals=Refusals(3, PROVIDER, 2.0),
    ),
    _pi("ctx", "b3-4370-704c-9ca9-ca493cca93c2", CONTEXT, 'exit 0; "400: ...context_length_exceeded", not repeated'),
    _pi(
        "editperm",
        "b3-20af-7232-8f92-1f0fdbc19d28",
        None,
        "it has no permissions: the file was written",
        usage=PI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _pi(
        "hang",
        "b0-8b40-73fd-8c8a-2ffa71d7e682",
        KILLED,
        f'{CAPPED}; "terminated" after each 302 s',
        refusals=Refusals(2, PROVIDER, 2.0),
        told=False,
    ),
    _pi(
        "hdr_hang",
        "b4-cc4a-7244-aeaf-e8e20057a1dc",
        KILLED,
        f'{CAPPED}; "Request timed out." after 300 s',
        refusals=Refusals(1, PROVIDER, 2.0),
        told=False,
    ),
    _pi(
        "long",
        "b2-f312-73bc-8463-1342e8f1286c",
        None,
        "a command of 60 s in silence",
        usage=PI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _pi(
        "ok",
        "af-e82a-70e3-b6c6-db337f880c64",
        None,
        "agent_settled, and the last message stopped by itself; each message comes three times and counts once",
        usage=PI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _pi("otel", "b7-fc72-7453-8f99-4af2c928cf96", None, "as ok", usage=PI_TOOL_AND_WORDS, tools=(1, 1, 0)),
    _pi(
        "perm",
        "b3-0785-7127-bd01-aec1cd4d04bc",
        None,
        "it has no permissions: the command ran",
        usage=PI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _pi(
        "resume",
        "b2-2016-74e0-bea7-3e8681e78246",
        None,
        "as ok: the run that is resumed next",
        usage=PI_TOOL_AND_WORDS,
        tools=(1, 1, 0),
    ),
    _pi(
        "resume.2",
        "b2-2016-74e0-bea7-3e8681e78246",
        None,
        "its messages are those of this run alone",
        usage=PI_WORDS,
        base=PI_TOOL_AND_WORDS,
    ),
    _pi(
        "sigkill_tool",
        "b3-69c2-77f9-969a-e29f0df58b9c",
        KILLED,
        "SIGKILL inside a command: never settled",
        usage=PI_TOOL,
        tools=(1, 0, 0),
        told=False,
    ),
    _pi("sigterm_stream", "b3-8532-750d-86e1-44f2fff32670", KILLED, "143 inside a stream: never settled", told=False),
    _pi(
        "sigterm_tool",
        "b3-530a-7525-9acb-a2a58108273c",
        KILLED,
        "143 inside a command: never settled",
        usage=PI_TOOL,
        tools=(1, 0, 0),
        told=False,
    ),
    _pi("slow", "b4-12c3-70c2-90da-5de40256ec97", None, "a token each second, each of them shown", usage=PI_WORDS),
)

GENUINE = (*CLAUDE, *CODEX, *GEMINI, *PI)

# --------------------------------------------------------------------------------------------------------------------
# What AGENT_CLIS.md describes and the corpus does not hold. Made by hand, from its words and from the form of the
# genuine lines: it shows what readers do with those words, not that the programs print exactly them.

SESSION = "5e551011-0000-4000-8000-000000000001"
THREAD = "01a1fbff-0000-7000-8000-000000000001"


def _events(*told: tuple[float, Stream, dict[str, Any] | str]) -> tuple[Heard, ...]:
    """Lines out of events (as JSON without blanks, as all four print it) or of plain text."""
    return tuple(Heard(at, stream, _text(event).encode()) for at, stream, event in told)


def _text(event: dict[str, Any] | str) -> str:
    return event if isinstance(event, str) else json.dumps(event, separators=(",", ":"), ensure_ascii=False)


Told = tuple[float, Stream, dict[str, Any] | str]


def _spread(start: float, step: float, *events: dict[str, Any]) -> list[Told]:
    return [(start + number * step, "stdout", event) for number, event in enumerate(events)]


# claude


def _claude_init() -> dict[str, Any]:
    return {
        "type": "system",
        "subtype": "init",
        "cwd": "/srv/project",
        "session_id": SESSION,
        "tools": ["Bash"],
        "model": CLAUDE_MODEL,
        "permissionMode": "default",
        "claude_code_version": "2.1.329",
    }


def _claude_retry(attempt: int, delay_ms: int, status: int | None, error: str) -> dict[str, Any]:
    return {
        "type": "system",
        "subtype": "api_retry",
        "attempt": attempt,
        "max_retries": 10,
        "retry_delay_ms": delay_ms,
        "error_status": status,
        "error": error,
        "session_id": SESSION,
    }


def _claude_says(id: str, *content: dict[str, Any]) -> dict[str, Any]:
    usage = {
        "input_tokens": 37,
        "cache_creation_input_tokens": 2048,
        "cache_read_input_tokens": 11264,
        "output_tokens": 1,
    }
    message = {"id": id, "type": "message", "role": "assistant", "model": CLAUDE_MODEL}
    return {
        "type": "assistant",
        "message": {**message, "content": list(content), "stop_reason": None, "usage": usage},
        "parent_tool_use_id": None,
        "session_id": SESSION,
    }


def _claude_fails(error: str, status: int | None, text: str) -> dict[str, Any]:
    zero = {
        "input_tokens": 0,
        "output_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    message = {"id": "b7", "model": "<synthetic>", "role": "assistant", "stop_reason": "stop_sequence", "usage": zero}
    return {
        "type": "assistant",
        "message": {**message, "content": [{"type": "text", "text": text}]},
        "session_id": SESSION,
        "error": error,
        "is_api_error_message": True,
        "api_error_status": status,
    }


def _claude_calls(id: str, command: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command}}


def _claude_got(id: str, content: str, is_error: bool = False) -> dict[str, Any]:
    result = {"tool_use_id": id, "type": "tool_result", "content": content, "is_error": is_error}
    return {"type": "user", "message": {"role": "user", "content": [result]}, "session_id": SESSION}


def _claude_result(used: Usage, total_cost: float | None = None, **more: Any) -> dict[str, Any]:
    cost = total_cost if total_cost is not None else used.cost_usd
    tokens = (used.input, used.output, used.cache_read, used.cache_write)
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    keys = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return {
        "stop_reason": "end_turn",
        "session_id": SESSION,
        "total_cost_usd": cost,
        "usage": dict(zip(keys, tokens, strict=True)),
        "modelUsage": {CLAUDE_MODEL: {**dict(zip(names, tokens, strict=True)), "costUSD": cost}}
        if any(tokens)
        else {},
        "permission_denials": [],
        "terminal_reason": "completed",
        "is_error": False,
        "num_turns": 1,
        "subtype": "success",
        "api_error_status": None,
        "result": "Done.",
        **more,
        "type": "result",
    }


DONE = {"type": "text", "text": "Done: the command printed hello-from-worker. Task complete. "}
RESETS_AT = int(WALL) + 2_400
CLAUDE_REFUSED: dict[str, Any] = {"is_error": True, "terminal_reason": "api_error", "api_error_status": 429}
LIMIT_HIT = "You've hit your 5-hour limit · resets 2:59am (UTC)"
CLAUDE_429 = "API Error: Request rejected (429) · This request would exceed your organization's rate limit"


def _claude_loop() -> tuple[Heard, ...]:
    told: list[Told] = [(1.0, "stdout", _claude_init())]
    for number in range(25):
        id, at = f"toolu_{number:04}", 1.5 + number * 0.5
        told.append((at, "stdout", _claude_says(f"msg_{number:04}", _claude_calls(id, "cat README.md"))))
        told.append((at + 0.1, "stdout", _claude_got(id, "# demo")))
    told.append((15.0, "stdout", _claude_says("msg_last", DONE)))
    told.append((15.1, "stdout", _claude_result(Usage(962, 2257, 292_864, 53_248, 0.32), num_turns=26)))
    return _events(*told)


def _made_claude(
    name: str, ends: ErrorClass | None, why: str, lines: tuple[Heard, ...], code: int, **more: Any
) -> Case:
    return _claude(f"made/{name}", SESSION, ends, why, made=lines, made_exit=Exit(code), **more)


MADE_CLAUDE = (
    _made_claude(
        "429once",
        None,
        "twice refused, then answered: nothing of the refusals is left",
        _events(
            *_spread(1.0, 0.4, _claude_init(), _claude_retry(1, 4465, 429, "rate_limit")),
            *_spread(5.9, 0.1, _claude_retry(2, 4513, 429, "rate_limit")),
            *_spread(10.5, 0.1, _claude_says("msg_1", DONE), _claude_result(CLAUDE_WORDS)),
        ),
        0,
        usage=CLAUDE_WORDS,
        refusals=Refusals(2, LIMITED, 4.465),
    ),
    _made_claude(
        "retry_after_long",
        LIMITED,
        "given up at once; how long the provider wants to be left alone is not printed",
        _events(
            *_spread(
                1.0,
                0.2,
                _claude_init(),
                _claude_fails("rate_limit", 429, CLAUDE_429),
                _claude_result(CLAUDE_NOTHING, result=CLAUDE_429, **CLAUDE_REFUSED),
            )
        ),
        1,
        usage=CLAUDE_NOTHING,
    ),
    _made_claude(
        "sub_rejected",
        LIMITED,
        "the subscription's limit is reached, and resetsAt says until when",
        _events(
            *_spread(
                0.8,
                0.1,
                _claude_init(),
                {
                    "type": "rate_limit_event",
                    "rate_limit_info": {
                        "status": "rejected",
                        "resetsAt": RESETS_AT,
                        "rateLimitType": "five_hour",
                        "utilization": 1.0,
                    },
                    "session_id": SESSION,
                },
                _claude_fails("rate_limit", 429, LIMIT_HIT),
                _claude_result(CLAUDE_NOTHING, result=LIMIT_HIT, **CLAUDE_REFUSED),
            )
        ),
        1,
        usage=CLAUDE_NOTHING,
        retry_after=RESETS_AT - (WALL + 1.1),
    ),
    _made_claude(
        "drop",
        KILLED,
        "the connection broke, it repeated, and was ended from outside",
        _events(
            *_spread(
                1.0,
                20.0,
                _claude_init(),
                _claude_retry(1, 571, None, "unknown"),
                _claude_retry(2, 1100, None, "unknown"),
            )
        ),
        143,
        refusals=Refusals(2, PROVIDER, 0.571),
        told=False,
    ),
    _made_claude(
        "midstream_err",
        None,
        "it asked again without a stream, without a word about it",
        _events(*_spread(1.0, 1.0, _claude_init(), _claude_says("msg_1", DONE), _claude_result(CLAUDE_WORDS))),
        0,
        usage=CLAUDE_WORDS,
    ),
    _made_claude(
        "loop",
        None,
        "it notices no circle: by its own word it is done, and only the count of equal calls tells",
        _claude_loop(),
        0,
        usage=Usage(962, 2257, 292_864, 53_248, 0.32),
        tools=(25, 25, 0),
        repeats=25,
    ),
    _made_claude(
        "sigint_tool",
        TASK,
        "error_during_execution and exit 0: interrupted, and no success",
        _events(
            *_spread(
                1.0,
                0.2,
                _claude_init(),
                _claude_says("msg_1", _claude_calls("toolu_1", "sleep 300")),
                _claude_got("toolu_1", "Exit code 137", is_error=True),
                _claude_result(
                    CLAUDE_WORDS,
                    is_error=True,
                    subtype="error_during_execution",
                    terminal_reason="aborted_tools",
                    errors=["Request was aborted."],
                ),
            )
        ),
        0,
        usage=CLAUDE_WORDS,
        tools=(1, 1, 0),
        also_ends=(KILLED,),
    ),
    _made_claude(
        "resume_after_kill",
        None,
        "a session killed inside a tool goes on: the cut call gets an end that it never had",
        _events(
            *_spread(
                1.0,
                0.2,
                _claude_init(),
                _claude_says("msg_2", DONE),
                _claude_result(CLAUDE_WORDS),
            )
        ),
        0,
        usage=CLAUDE_WORDS,
        base=CLAUDE_BEGAN,
    ),
    _made_claude(
        "model_not_found",
        CONFIG,
        "no repetition finds a model that does not exist",
        _events(
            *_spread(
                1.0,
                0.5,
                _claude_init(),
                _claude_retry(1, 575, 404, "model_not_found"),
                _claude_fails("model_not_found", 404, "There's an issue with the selected model"),
                _claude_result(CLAUDE_NOTHING, is_error=True, terminal_reason="api_error", api_error_status=404),
            )
        ),
        1,
        usage=CLAUDE_NOTHING,
        refusals=Refusals(1, CONFIG, 0.575),
    ),
    _made_claude(
        "billing_error",
        ErrorClass.BUDGET_EXCEEDED,
        "the account's money is spent",
        _events(
            *_spread(
                1.0,
                0.5,
                _claude_init(),
                _claude_retry(1, 575, 402, "billing_error"),
                _claude_fails("billing_error", 402, "Credit balance is too low"),
                _claude_result(CLAUDE_NOTHING, is_error=True, terminal_reason="api_error", api_error_status=402),
            )
        ),
        1,
        usage=CLAUDE_NOTHING,
        refusals=Refusals(1, ErrorClass.BUDGET_EXCEEDED, 0.575),
    ),
)


# codex


def _codex_begun() -> list[dict[str, Any]]:
    words = "Model metadata for `gpt-5.1-codex` not found. Defaulting to fallback metadata"
    return [
        {"type": "thread.started", "thread_id": THREAD},
        {"type": "item.completed", "item": {"id": "item_0", "type": "error", "message": words}},
        {"type": "turn.started"},
    ]


def _codex_error(message: str) -> dict[str, Any]:
    return {"type": "error", "message": message}


def _codex_failed(message: str) -> list[dict[str, Any]]:
    return [_codex_error(message), {"type": "turn.failed", "error": {"message": message}}]


def _codex_command(id: str, is_done: bool, command: str = "/bin/bash -lc 'cat README.md'") -> dict[str, Any]:
    item = {
        "id": id,
        "type": "command_execution",
        "command": command,
        "aggregated_output": "# demo\n" if is_done else "",
        "exit_code": 0 if is_done else None,
        "status": "completed" if is_done else "in_progress",
    }
    return {"type": "item.completed" if is_done else "item.started", "item": item}


def _codex_done(input: int, cached: int, output: int) -> list[dict[str, Any]]:
    usage = {
        "input_tokens": input,
        "cached_input_tokens": cached,
        "cache_write_input_tokens": 0,
        "output_tokens": output,
        "reasoning_output_tokens": 16,
    }
    said = {"id": "item_9", "type": "agent_message", "text": DONE["text"]}
    return [{"type": "item.completed", "item": said}, {"type": "turn.completed", "usage": usage}]


CODEX_429 = "exceeded retry limit, last status: 429 Too Many Requests, request id: req_mock0001"
CODEX_LIMIT = (
    "rate limit exceeded: Rate limit reached for gpt-5.1-codex in organization org-mock on tokens per min (TPM): "
    "Limit 30000, Used 30000, Requested 900. Please try again in 3.5s."
)
CODEX_DROP = "stream disconnected before completion: Transport error: network error: error decoding response body"
CODEX_IDLE = "stream disconnected before completion: idle timeout waiting for SSE"
CODEX_USAGE_LIMIT = "You've hit your usage limit. Upgrade to Pro or try again in 3 hours 12 minutes."


def _codex_reconnecting(most: int, message: str) -> list[dict[str, Any]]:
    return [_codex_error(f"Reconnecting... {number}/{most} ({message})") for number in range(1, most + 1)]


def _codex_loop() -> list[dict[str, Any]]:
    return [_codex_command(f"item_{number}", is_done) for number in range(1, 26) for is_done in (False, True)]


def _made_codex(
    name: str, ends: ErrorClass | None, why: str, lines: tuple[Heard, ...], exit: Exit, **more: Any
) -> Case:
    return Case(f"codex/made/{name}", ends, why, session=THREAD, made=lines, made_exit=exit, **more)


MADE_CODEX = (
    _made_codex(
        "429once",
        None,
        "twice refused, then answered",
        _events(
            *_spread(
                0.2,
                4.0,
                *_codex_begun(),
                *_codex_reconnecting(5, CODEX_429)[:2],
                *_codex_done(13349, 11264, 57),
            )
        ),
        Exit(0),
        usage=CODEX_WORDS,
        refusals=Refusals(2, LIMITED),
    ),
    _made_codex(
        "retry_after_long",
        KILLED,
        f"one refusal, then an hour of silence: {CAPPED}",
        _events(*_spread(0.2, 0.1, *_codex_begun(), *_codex_reconnecting(5, CODEX_429)[:1])),
        Exit(signal=signal.SIGTERM),
        refusals=Refusals(1, LIMITED),
        told=False,
    ),
    _made_codex(
        "stream_limit",
        LIMITED,
        "a limit told inside the stream says how long it lasts",
        _events(
            *_spread(0.2, 3.5, *_codex_begun(), *_codex_reconnecting(5, CODEX_LIMIT), *_codex_failed(CODEX_LIMIT))
        ),
        Exit(1),
        refusals=Refusals(5, LIMITED, 3.5),
        retry_after=3.5,
    ),
    _made_codex(
        "usage_limit",
        LIMITED,
        "the account's usage limit ends by itself",
        _events(*_spread(0.2, 0.1, *_codex_begun(), *_codex_failed(CODEX_USAGE_LIMIT))),
        Exit(1),
    ),
    _made_codex(
        "drop",
        PROVIDER,
        "the connection broke six times",
        _events(*_spread(0.2, 2.0, *_codex_begun(), *_codex_reconnecting(5, CODEX_DROP), *_codex_failed(CODEX_DROP))),
        Exit(1),
        refusals=Refusals(5, PROVIDER),
    ),
    _made_codex(
        "idle_cfg",
        PROVIDER,
        "silent streams, three times, with a shorter timeout",
        _events(*_spread(0.2, 8.0, *_codex_begun(), *_codex_reconnecting(2, CODEX_IDLE), *_codex_failed(CODEX_IDLE))),
        Exit(1),
        refusals=Refusals(2, PROVIDER),
    ),
    _made_codex(
        "loop",
        None,
        "it notices no circle",
        _events(*_spread(0.2, 0.2, *_codex_begun(), *_codex_loop(), *_codex_done(26 * 13349, 26 * 11264, 2257))),
        Exit(0),
        usage=Usage(26 * 2085, 2257, 26 * 11264),
        tools=(25, 25, 0),
        repeats=25,
    ),
    _made_codex(
        "sigint_tool",
        KILLED,
        "SIGINT: exit 1 and no end of the turn on stdout; its rollout says turn_aborted, interrupted",
        _events(
            *_spread(0.2, 0.2, *_codex_begun(), _codex_command("item_1", False, "/bin/bash -lc 'sleep 300'")),
            (
                3.0,
                "session",
                {
                    "timestamp": "2026-11-21T01:20:03.000Z",
                    "type": "event_msg",
                    "payload": {
                        "type": "turn_aborted",
                        "reason": "interrupted",
                    },
                },
            ),
        ),
        Exit(1),
        tools=(1, 0, 0),
        told=False,
        also_ends=(CRASH,),
    ),
    _made_codex(
        "resume_after_kill",
        None,
        "the thread goes on counting where it was killed",
        _events(*_spread(0.2, 0.2, *_codex_begun(), *_codex_done(26698, 22528, 145))),
        Exit(0),
        usage=CODEX_WORDS,
        base=CODEX_TOOL,
    ),
)


# gemini


def _gemini_begun() -> list[dict[str, Any]]:
    return [
        {"type": "init", "timestamp": "2026-11-21T01:20:02.000Z", "session_id": SESSION, "model": GEMINI_MODEL},
        {"type": "message", "timestamp": "2026-11-21T01:20:02.001Z", "role": "user", "content": "Run the command."},
    ]


def _gemini_says(words: str) -> dict[str, Any]:
    return {
        "type": "message",
        "timestamp": "2026-11-21T01:20:03.000Z",
        "role": "assistant",
        "content": words,
        "delta": True,
    }


def _gemini_result(used: tuple[int, int, int, int], error: str = "", status: str = "") -> dict[str, Any]:
    total, input, output, cached = used
    return {
        "type": "result",
        "timestamp": "2026-11-21T01:20:04.000Z",
        "status": status or ("error" if error else "success"),
        **({"error": {"type": "unknown", "message": error}} if error else {}),
        "stats": {
            "total_tokens": total,
            "input_tokens": input,
            "output_tokens": output,
            "cached": cached,
            "input": input - cached,
            "duration_ms": 1,
            "tool_calls": 0,
            "models": {},
        },
    }


def _gemini_loop() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for number in range(5):
        call = {
            "tool_name": "run_shell_command",
            "tool_id": f"call_{number}",
            "parameters": {"command": "cat README.md"},
        }
        told.append({"type": "tool_use", "timestamp": "2026-11-21T01:20:03.000Z", **call})
        end = {"tool_id": f"call_{number}", "status": "success", "output": "# demo"}
        told.append({"type": "tool_result", "timestamp": "2026-11-21T01:20:03.000Z", **end})
    return told


def _gemini_error(severity: str, message: str) -> dict[str, Any]:
    return {"type": "error", "timestamp": "2026-11-21T01:20:03.000Z", "severity": severity, "message": message}


ONE_ANSWER = (13_422, 13_349, 57, 11_264)
NO_ANSWER = (0, 0, 0, 0)
QUOTA = "You exceeded your current quota, please check your plan and billing details. Please retry in {0}s."
GEMINI_RETRIES: tuple[Told, ...] = tuple(
    (at, "stderr", line)
    for at, lines in (
        (2.1, ("Attempt 1 failed: " + QUOTA.format(4), "Suggested retry after 4s.. Retrying after 5594ms...")),
        (7.8, ("Attempt 2 failed: " + QUOTA.format(4), "Suggested retry after 4s.. Retrying after 11008ms...")),
    )
    for line in lines
)
GEMINI_LONG = (
    f"[API Error: {QUOTA.format(3600)}\nSuggested retry after 3600s.]\nPlease wait and try again later. To increase "
    "your limits, request a quota increase through AI Studio, or switch to another /auth method"
)


def _made_gemini(name: str, ends: ErrorClass | None, why: str, lines: list[Told], code: int, **more: Any) -> Case:
    session = more.pop("session", SESSION)
    return _gemini(f"made/{name}", session, ends, why, made=_events(*lines), made_exit=Exit(code), **more)


MADE_GEMINI = (
    _made_gemini(
        "429once",
        None,
        "twice refused (stderr alone says so), then answered",
        [
            *_spread(2.0, 0.01, *_gemini_begun()),
            *GEMINI_RETRIES,
            *_spread(19.0, 0.1, _gemini_says("Done."), _gemini_result(ONE_ANSWER)),
        ],
        0,
        usage=GEMINI_WORDS,
        refusals=Refusals(2, LIMITED, 5.594),
    ),
    _made_gemini(
        "retry_after_long",
        LIMITED,
        "given up at once, and told for how long: nobody may ask again for an hour",
        [
            *_spread(2.0, 0.01, *_gemini_begun()),
            (
                2.6,
                "stderr",
                f"Error when talking to Gemini API Full report available at: x.json TerminalQuotaError: "
                f"{QUOTA.format(3600)}",
            ),
            (2.6, "stderr", "Suggested retry after 3600s."),
            *_spread(2.65, 0.1, _gemini_result(NO_ANSWER, GEMINI_LONG)),
        ],
        173,
        usage=Usage(),
        retry_after=3600.0,
    ),
    _made_gemini(
        "drop",
        PROVIDER,
        "the connection broke, and nothing was repeated",
        _spread(
            2.0, 0.3, *_gemini_begun(), _gemini_says("Let "), _gemini_result(NO_ANSWER, "[API Error: terminated]")
        ),
        1,
        usage=Usage(),
    ),
    _made_gemini(
        "midstream_err",
        PROVIDER,
        "exit 0, and yet the stream had no end",
        _spread(
            2.0,
            3.0,
            *_gemini_begun(),
            _gemini_error("error", "Model stream ended without a finish reason."),
            _gemini_result(NO_ANSWER, "Model stream ended without a finish reason."),
        ),
        0,
        usage=Usage(),
    ),
    _made_gemini(
        "loop",
        TASK,
        "exit 0 and success, and it stopped itself because it went in circles",
        _spread(
            2.0,
            0.2,
            *_gemini_begun(),
            *_gemini_loop(),
            _gemini_error("warning", "Loop detected, stopping execution"),
            _gemini_result(ONE_ANSWER),
        ),
        0,
        usage=GEMINI_WORDS,
        tools=(5, 5, 0),
        repeats=5,
        looped=True,
    ),
    _made_gemini(
        "sigint_tool",
        KILLED,
        "SIGINT: exit 0 and no result",
        _spread(2.0, 0.2, *_gemini_begun(), _gemini_loop()[0]),
        0,
        tools=(1, 0, 0),
        told=False,
    ),
    _made_gemini(
        "resume_after_kill",
        None,
        "stats are of this run alone",
        _spread(2.0, 0.2, *_gemini_begun(), _gemini_says("Done."), _gemini_result(ONE_ANSWER)),
        0,
        usage=GEMINI_WORDS,
        base=GEMINI_TOOL,
    ),
    _made_gemini("exit_41", AUTH, "its documented exit for a missing login", [], 41, session="", told=False),
    _made_gemini("exit_52", CONFIG, "its documented exit for a bad configuration", [], 52, session="", told=False),
    _made_gemini("exit_55", CONFIG, "its documented exit for an untrusted folder", [], 55, session="", told=False),
)


# pi


def _pi_begun() -> list[dict[str, Any]]:
    return [
        {
            "type": "session",
            "version": 3,
            "id": THREAD,
            "timestamp": "2026-11-21T01:20:02.000Z",
            "cwd": "/srv/project",
        },
        {"type": "agent_start"},
        {"type": "turn_start"},
    ]


def _pi_message(stop: str, used: Usage, content: list[dict[str, Any]], error: str = "") -> dict[str, Any]:
    usage = {
        "input": used.input,
        "output": used.output,
        "cacheRead": used.cache_read,
        "cacheWrite": used.cache_write,
        "totalTokens": used.input + used.output + used.cache_read,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "total": used.cost_usd or 0},
    }
    return {
        "role": "assistant",
        "content": content,
        "provider": "mock",
        "model": PI_MODEL,
        "usage": usage,
        "stopReason": stop,
        "timestamp": 1795224003000,
        **({"errorMessage": error} if error else {}),
    }


def _pi_turn(message: dict[str, Any], will_retry: bool) -> list[dict[str, Any]]:
    return [
        {"type": "message_start", "message": message},
        {"type": "message_end", "message": message},
        {"type": "turn_end", "message": message, "toolResults": []},
        {"type": "agent_end", "messages": [message], "willRetry": will_retry},
    ]


def _pi_retry(attempt: int, error: str) -> dict[str, Any]:
    delay = 2000 * 2 ** (attempt - 1)
    return {
        "type": "auto_retry_start",
        "attempt": attempt,
        "maxAttempts": 3,
        "delayMs": delay,
        "errorMessage": error,
    }


def _pi_refused(error: str, times: int, gives_up: bool) -> list[dict[str, Any]]:
    message = _pi_message("error", Usage(), [], error)
    told: list[dict[str, Any]] = []
    for attempt in range(1, times + 1):
        told += [*_pi_turn(message, True), _pi_retry(attempt, error), {"type": "agent_start"}, {"type": "turn_start"}]
    if gives_up:
        end = {"type": "auto_retry_end", "success": False, "attempt": times, "finalError": error}
        told += [*_pi_turn(message, False), end, {"type": "agent_settled"}]
    return told


def _pi_done() -> list[dict[str, Any]]:
    said = _pi_message("stop", PI_WORDS, [{"type": "text", "text": "Done."}])
    return [*_pi_turn(said, False), {"type": "agent_settled"}]


def _pi_call(id: str, message: int) -> list[dict[str, Any]]:
    call = {"type": "toolCall", "id": id, "name": "bash", "arguments": {"command": "cat README.md"}}
    said = {**_pi_message("toolUse", PI_TOOL, [call]), "timestamp": 1795224003000 + message}
    begun = {"toolCallId": id, "toolName": "bash", "args": {"command": "cat README.md"}}
    return [
        {"type": "message_start", "message": said},
        {"type": "message_end", "message": said},
        {"type": "tool_execution_start", **begun},
        {
            "type": "tool_execution_end",
            "toolCallId": id,
            "toolName": "bash",
            "result": {"content": []},
            "isError": False,
        },
    ]


PI_429 = (
    '429: {"message":"Rate limit reached for mock-model in organization org-mock on tokens per min (TPM): Limit '
    '30000, Used 30000, Requested 900. Please try again in %s.","type":"tokens","param":null,'
    '"code":"rate_limit_exceeded"}'
)
ENDED = Exit(0)
PI_LOOP = [event for number in range(25) for event in _pi_call(f"call_{number}", number)]


def _made_pi(
    name: str, ends: ErrorClass | None, why: str, events: list[dict[str, Any]], exit: Exit = ENDED, **more: Any
) -> Case:
    told = _events(*_spread(2.0, 0.05, *_pi_begun(), *events))
    return Case(f"pi/made/{name}", ends, why, session=THREAD, model=PI_MODEL, made=told, made_exit=exit, **more)


MADE_PI = (
    _made_pi(
        "429once",
        None,
        "twice refused, then answered",
        [*_pi_refused(PI_429 % "4s", 2, False), *_pi_done()],
        usage=PI_WORDS,
        refusals=Refusals(2, LIMITED, 4.0),
    ),
    _made_pi(
        "retry_after_long",
        LIMITED,
        "it does not heed the hour that it is told",
        _pi_refused(PI_429 % "3600s", 3, True),
        refusals=Refusals(3, LIMITED, 3600.0),
        retry_after=3600.0,
    ),
    _made_pi(
        "drop",
        PROVIDER,
        '"terminated", four times',
        _pi_refused("terminated", 3, True),
        refusals=Refusals(3, PROVIDER, 2.0),
    ),
    _made_pi(
        "loop",
        None,
        "it notices no circle",
        [*PI_LOOP, *_pi_done()],
        usage=Usage(26 * 2_085, 25 * 88 + 57, 26 * 11_264, 0, 25 * 0.0033874 + 0.0033254),
        tools=(25, 25, 0),
        repeats=25,
    ),
    _made_pi(
        "sigint_tool",
        KILLED,
        "dies by SIGINT inside a command",
        _pi_call("call_0", 0)[:3],
        Exit(signal=signal.SIGINT),
        usage=PI_TOOL,
        tools=(1, 0, 0),
        told=False,
    ),
    _made_pi(
        "resume_after_kill",
        None,
        "its messages are those of this run alone",
        _pi_done(),
        usage=PI_WORDS,
        base=PI_TOOL,
    ),
    _made_pi(
        "aborted",
        TASK,
        "it settled, and its last message was aborted",
        [*_pi_turn(_pi_message("aborted", Usage(), [], "Request was aborted."), False), {"type": "agent_settled"}],
        also_ends=(KILLED, PROVIDER),
    ),
)

MADE = (*MADE_CLAUDE, *MADE_CODEX, *MADE_GEMINI, *MADE_PI)
CASES = {case.name: case for case in (*GENUINE, *MADE)}


def here() -> list[Case]:
    """Every case that can be judged on this machine."""
    return list(CASES.values())
