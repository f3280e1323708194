"""Agents: what a worker that is an agent command line (Claude Code, Codex, Gemini CLI, pi) shows of itself.

A *profile* says how such a program is run, ended and resumed, and which reader understands what it prints.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from crewd.model.failure import Failure
from crewd.model.plan import StopStep
from crewd.model.run import Usage


class PromptBy(StrEnum):
    """How a program is given its prompt. An argument can be read by everyone on the machine."""

    ARGUMENT = "argument"
    STDIN = "stdin"


class Flag(msgspec.Struct, frozen=True, gc=False):
    """An option that makes a program supervisable. It is added unless one of its `names` is there already."""

    words: tuple[str, ...]  # as added: ("--output-format", "stream-json")
    names: tuple[str, ...] = ()  # spellings of the same option; none: the first word


class Profile(msgspec.Struct, frozen=True, gc=False):
    """How one agent command line is run so that it can be supervised. See docs/agents.md."""

    name: str  # "claude", "codex", "gemini", "pi", "plain"
    program: str = ""  # as found in PATH; "": the profile adds nothing to a command
    provider: str = ""  # whose circuit it shares unless the command says otherwise: anthropic, openai, google
    versions: tuple[str, ...] = ()  # of the program, with which the reader was tried
    subcommand: tuple[str, ...] = ()  # comes right after the program, unless it is there: ("exec",)
    flags: tuple[Flag, ...] = ()
    model_flag: tuple[str, ...] = ()  # spellings of the option that names the model, the first is added
    env: Mapping[str, str] = {}  # set unless the task sets it otherwise
    env_pass: tuple[str, ...] = ()  # variables of crewd's own environment that the program looks for
    prompt_by: PromptBy = PromptBy.ARGUMENT
    prompt_flag: str = ""  # comes before the prompt, where that is an argument; "": nothing
    resume: tuple[str, ...] = ()  # what resumes a session, with {session} in it; before the prompt. (): it cannot
    resume_prompt: str = "Continue where you left off."
    # Whether a resumed session may carry out a tool call once more that was cut by SIGKILL.
    repeats_cut_calls: bool = True
    stop: tuple[StopStep, ...] = ()  # what ends it and leaves least behind; (): as every other command
    stopped_exits_0: bool = False  # it ends with 0 when somebody stops it: 0 without its last word proves nothing
    silent_after: float = 60.0  # seconds without a line that are ordinary while it waits for its model
    session_file: bool = False  # the file of its session tells what its output leaves out, and is followed too
    signed_in_by: tuple[str, ...] = ()  # variables of which one is enough to be logged in
    login_files: tuple[str, ...] = ()  # files below the home folder of which one is enough


class OpenTool(msgspec.Struct, frozen=True, gc=False):
    """A tool call that was begun and has not ended."""

    id: str
    name: str
    began: float  # seconds of the caller's clock


class AgentView(msgspec.Struct, frozen=True, gc=False):
    """What one agent has shown of itself so far, at one moment. Texts are as the agent wrote them: to be redacted."""

    profile: str
    understood: bool = True  # False: its output is none that the profile knows, and it is judged as any command
    session: str = ""  # id of its session; "": none was told
    model: str = ""
    version: str = ""
    moves: int = 0  # grows when its work moves
    beats: int = 0  # grows with every sign of life, moves included
    turns: int = 0  # rounds of work: each begins once everything that the one before it called has answered
    tools: tuple[OpenTool, ...] = ()
    tools_begun: int = 0
    tools_new: int = 0  # of those: calls that were not made before with the same input
    usage: Usage | None = None  # of this attempt so far
    thread_usage: Usage | None = None  # of its session, where that is what the program counts
    thread_cost: float | None = None  # the same for its cost
    refused: Failure | None = None  # the provider refused its latest request, which it means to repeat
    throttled_until: float | None = None  # seconds of the caller's clock; infinite: it did not say
    denied: tuple[str, ...] = ()  # tools it was not allowed to use
    repeats: int = 0  # how often the latest tool call was made with the same input, without another between
    errors_repeated: int = 0  # how often in a row a tool failed with the same words
    tokens_since_new: int = 0  # tokens used since it last did something that it had not done before
    tokens_usual: int = 0  # median of the tokens between two new things, so far; 0: too few of them
    looped: str = ""  # its own word that it goes in circles
    ended: bool = False  # it told how its task ended
    unknown: Mapping[str, int] = {}  # event types that the reader does not know
    lines: int = 0
    noise: int = 0  # lines that are no event at all
