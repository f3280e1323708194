"""What the profile of an agent makes of a task: command, environment and circuit; and what it does not go with."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from crewd.config.run_file.fields import ARGUMENT_MAX, PROMPT_MAX
from crewd.config.run_file.problems import Code, shown
from crewd.model.agent import Profile, PromptBy
from crewd.model.plan import Mode
from crewd.policy.command_line import completed, is_shell_text, model_in, option
from crewd.policy.provider import circuit_name, provider_of


class Clash(NamedTuple):
    """One thing that does not go with the profile of a task."""

    field: str  # where it was written
    code: Code
    message: str
    remedy: str


class AgentParts(NamedTuple):
    """What stands in the plan of a task because of its profile."""

    command: tuple[str, ...]
    stdin: str | None
    env: Mapping[str, str]
    env_pass: tuple[str, ...]  # besides those that somebody named
    provider: str


def agent_parts(profile: Profile, command: tuple[str, ...], values: Mapping[str, Any]) -> AgentParts:
    """Lay a profile below what file and executor say. A plain command stays what it is, with its prompt on stdin."""
    model: str = values.get("model", "")
    whole = completed(profile, command, model)
    said: Mapping[str, str] = values.get("env", {})
    taken = {*said, *values.get("secrets", {})}
    env = {**{name: value for name, value in profile.env.items() if name not in taken}, **said}
    named: str = values.get("provider", "")
    provider = named or circuit_name(
        provider_of(profile, whole, env), values.get("account", ""), model_in(profile, whole) or model
    )
    # An agent is given its prompt when an attempt starts: that one may be resumed, and is asked something else then.
    stdin = values.get("stdin") if profile.program else values.get("stdin", values.get("prompt"))
    return AgentParts(whole, stdin, env, _passed(profile, taken | {*values.get("env_pass", ())}), provider)


def clashes(profile: Profile, values: Mapping[str, Any]) -> Iterator[Clash]:
    """Find what does not go together. `values` is what all layers say."""
    is_protocol = values.get("mode") == Mode.PROTOCOL
    if profile.program and is_protocol:
        message = f"an agent of profile {profile.name} prints its own lines, and none of crewd-worker/1"
        yield Clash("mode", Code.CONFLICT, message, "leave mode out, or profile")
    prompt: str | None = values.get("prompt")
    if prompt is None:
        return
    if "profile" not in values:
        message = "prompt has no meaning without a profile"
        yield Clash("prompt", Code.CONFLICT, message, 'add profile = "claude", or "plain" for a prompt on stdin')
    elif is_protocol:
        yield Clash("prompt", Code.CONFLICT, "prompt has no meaning in protocol mode", "send a payload")
    elif profile.prompt_by is PromptBy.STDIN and "stdin" in values:
        message = f"stdin, and a prompt that goes there with profile {profile.name}"
        yield Clash("prompt", Code.CONFLICT, message, "put both into the prompt")
    size = len(prompt.encode())
    if size > PROMPT_MAX:
        yield Clash("prompt", Code.TOO_LARGE, "is too long", f"{PROMPT_MAX} bytes at most")
    elif profile.prompt_by is PromptBy.ARGUMENT and size + len(profile.prompt_flag) > ARGUMENT_MAX:
        most = ARGUMENT_MAX - len(profile.prompt_flag)
        message = f"is too long for profile {profile.name}, whose prompt is an argument"
        yield Clash(
            "prompt", Code.TOO_LARGE, message, f"{most} bytes at most; write the rest into a file of the task"
        )


def shell_clash(profile: Profile, command: tuple[str, ...]) -> Clash | None:
    """Find a command to which nothing can be added: what stands behind a shell's text never reaches the agent."""
    if not profile.program or not is_shell_text(command):
        return None
    message = f"a text for {shown(command[0])} hides the program of profile {profile.name}"
    return Clash("command", Code.CONFLICT, message, 'write command = ["program", "argument"], without shell')


def flag_clash(profile: Profile, command: tuple[str, ...]) -> Clash | None:
    """Find an option that makes a program speak otherwise than its profile understands."""
    words = command[1:]
    for flag in profile.flags:
        if len(flag.words) < 2:
            continue
        said, wanted = option(words, flag.names or flag.words[:1]), flag.words[1]
        if said and said != wanted:
            message = f"{flag.words[0]} {shown(said)} is nothing that profile {profile.name} understands"
            return Clash("command", Code.CONFLICT, message, f"take it out, or write {wanted}")
    return None


def _passed(profile: Profile, named: set[str]) -> tuple[str, ...]:
    """Name what the program looks for in crewd's own environment.

    Where somebody names credentials for the task, crewd's own are kept back: they might be another account's, and
    programs prefer the one over the other.
    """
    places = {each[1:].partition("/")[0] for each in profile.login_files if each.startswith("$")}
    credentials = {*profile.signed_in_by, *places}
    if credentials.isdisjoint(named):
        return profile.env_pass
    return tuple(name for name in profile.env_pass if name not in credentials)
