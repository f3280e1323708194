"""Command lines of agents: what a profile adds to a command, once when it is planned and once for each attempt."""

import re
from collections.abc import Iterator, Sequence

from crewd.model.agent import Flag, Profile, PromptBy

# What can be an id of a session. Everything else could be an option, a path, or a second word.
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SLOT = "{session}"
_OPTIONS_END = "--"
_CONFIG_FLAGS = ("-c", "--config")  # of codex: -c model="name" says the same as --model name
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "busybox"})
_SHELL_TEXT = re.compile(r"-[a-z]*c")  # -c, -lc, -euc


def completed(profile: Profile, command: tuple[str, ...], model: str) -> tuple[str, ...]:
    """Add to a command what makes its program supervisable: subcommand, flags, and the model where one is named.

    Nothing that is there, in any spelling, is added or changed. What is added stands right behind the program: an
    option of the operator's that takes every word up to the next one, or a `--`, cannot swallow it there.
    """
    if not profile.program:
        return command
    front, rest = _halves(profile, command)
    if profile.subcommand and (at := _find(_options(rest), profile.subcommand)) is not None:
        after = at + len(profile.subcommand)
        before, rest = rest[:after], rest[after:]
    else:
        before = profile.subcommand
    given = (*before, *rest)
    added = [word for flag in profile.flags if not _has(given, flag) for word in flag.words]
    if model and profile.model_flag and not model_in(profile, command):
        added += [profile.model_flag[0], model]
    return (*front, *before, *added, *rest)


def argv(
    profile: Profile, command: tuple[str, ...], prompt: str | None, session: str
) -> tuple[tuple[str, ...], str | None]:
    """Make the command line of one attempt, and the text for its stdin; None: nothing of the profile's.

    `session` "": it starts afresh. Raises ValueError for a session that `can_resume` would not have allowed.
    """
    if session:
        if not can_resume(profile, prompt):
            raise ValueError(f"a task of profile {profile.name} without a prompt of its own cannot be resumed")
        if not _SESSION.fullmatch(session):
            raise ValueError(f"{session[:80]!r} is no id of a session; start afresh")
        end = len(_options(command))  # behind -- they would be part of a prompt
        resumed = (word.replace(_SLOT, session) for word in profile.resume)
        command = (*command[:end], *resumed, *command[end:])
        prompt = profile.resume_prompt
    if prompt is None:
        return command, None
    match profile.prompt_by:
        case PromptBy.STDIN:
            # Where a flag stands here, it is the program's word for "look at stdin".
            return (*command, *([profile.prompt_flag] if profile.prompt_flag else [])), prompt
        case PromptBy.ARGUMENT:
            return (*command, *_as_argument(profile.prompt_flag, prompt)), None


def can_resume(profile: Profile, prompt: str | None) -> bool:
    """Whether a task can go on with a session at all.

    One whose command or stdin holds the prompt cannot: the session would be asked the same a second time.
    """
    return bool(profile.resume) and prompt is not None


def program_of(profile: Profile, command: tuple[str, ...]) -> tuple[str, ...]:
    """Take from a command its beginning, up to the program itself: behind it an option such as --version may stand.

    It may be called by a path, or by another program: `npx codex`, `node /opt/codex.js`.
    """
    return _halves(profile, command)[0]


def model_in(profile: Profile, command: Sequence[str]) -> str:
    """Find the model that a command names itself; "": none."""
    words = _options(command[1:])
    return option(words, profile.model_flag) or config_option(words, "model")


def option(words: Sequence[str], names: Sequence[str]) -> str:
    """Find the value of an option, in whatever form it is written: --model x, --model=x, -m x, -mx. "": none."""
    for at, word in enumerate(words):
        for name in names:
            if word == name:
                return words[at + 1] if at + 1 < len(words) else ""
            if word.startswith(f"{name}="):
                return word[len(name) + 1 :]
            if _is_short(name) and word.startswith(name):
                return word[len(name) :]
    return ""


def config_option(words: Sequence[str], key: str) -> str:
    """Find what `-c KEY=VALUE` says, as codex reads it: the value is TOML, or a text without quotes. "": nothing."""
    for at, word in enumerate(words):
        if word in _CONFIG_FLAGS:
            said = words[at + 1] if at + 1 < len(words) else ""
        elif word.startswith("--config="):
            said = word.removeprefix("--config=")
        elif word.startswith("-c"):
            said = word.removeprefix("-c").removeprefix("=")
        else:
            continue
        name, equals, value = said.partition("=")
        if equals and name.strip() == key:
            return value.strip().strip("\"'")
    return ""


def is_shell_text(command: Sequence[str]) -> bool:
    """Whether a command is a text for a shell: words that are added behind it would never reach the agent."""
    name = command[0].rpartition("/")[2] if command else ""
    return name in _SHELLS and any(_SHELL_TEXT.fullmatch(word) for word in command[1:])


def _halves(profile: Profile, command: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part a command behind its program. Where none of its words is the program, it is the first."""
    found = next((at for at, word in enumerate(command) if _is_program(profile.program, word)), 0)
    return command[: found + 1], command[found + 1 :]


def _is_program(program: str, word: str) -> bool:
    """Whether a word is the program: its name or path, with a suffix, or the package that `npx` takes it from."""
    name = word.rpartition("/")[2]
    if word.startswith("@"):
        name = name.partition("@")[0]
        return name == program or name.startswith(f"{program}-")
    return name.partition(".")[0] == program


def _find(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    size = len(wanted)
    return next((at for at in range(len(words)) if tuple(words[at : at + size]) == tuple(wanted)), None)


def _has(words: Sequence[str], flag: Flag) -> bool:
    names = flag.names or flag.words[:1]
    takes_value = len(flag.words) > 1
    return any(
        word == name or word.startswith(f"{name}=") or (takes_value and _is_short(name) and word.startswith(name))
        for word in _options(words)
        for name in names
    )


def _is_short(name: str) -> bool:
    """Whether an option is one whose value may stand in the same word: -mNAME."""
    return len(name) == 2 and name[0] == "-" and name[1] != "-"


def _options(words: Sequence[str]) -> tuple[str, ...]:
    """Leave out what stands behind `--`: no option does."""
    return tuple(_until_end(words))


def _until_end(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == _OPTIONS_END:
            return
        yield word


def _as_argument(flag: str, prompt: str) -> tuple[str, ...]:
    if flag.endswith("="):
        return (flag + prompt,)
    # A word that begins with - is an option to most programs; one that begins with a blank is none to any.
    text = f" {prompt}" if prompt.startswith("-") and flag != _OPTIONS_END else prompt
    return (flag, text) if flag else (text,)
