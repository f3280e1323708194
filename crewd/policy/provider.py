"""Providers: whose model a task uses, and what its circuit is called. Tasks of one circuit are refused together."""

import hashlib
import re
from collections.abc import Mapping

from crewd.model.agent import Profile
from crewd.policy.command_line import config_option, model_in, option

NAME_MAX = 120  # characters of a circuit's name: it is a key, and is shown

_UNPRINTABLE = re.compile(r"[^\x21-\x7e]+")
_PARTS = re.compile(r"[-_: ]+")
# What providers put around a model's own name: a region, a context window, a way to think.
_AROUND = re.compile(r"\[[^\]]*\]|@.*$|:(?:off|minimal|low|medium|high|xhigh|max)$")
_VENDOR = re.compile(r"^(?:[a-z]{2,6}\.)?(?:anthropic|meta|amazon|mistral|cohere|deepseek|openai|google)\.(?=[a-z])")
# Words that name one of a family's versions, and not another family.
_VERSION = re.compile(r"v?\d+(?:\.\d+)*|v\d+(?:\.\d+)*[a-z]?|20\d{6}")
_PASSING = frozenset({"latest", "preview", "exp", "experimental", "stable", "beta", "thinking"})
_GPT = re.compile(r"(?:chat)?gpt-(\d+)(?:\.\d+)?([a-z]?)(?=-|$)(.*)")
_SIZES = ("mini", "nano", "pro", "oss")
# By which Claude Code knows the newest of each.
_CLAUDE = {"opus": "opus", "sonnet": "sonnet", "haiku": "haiku", "opusplan": "opus"}

# Variables with which a program is told to ask somebody else for the same models.
_ELSEWHERE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "claude": (
        ("CLAUDE_CODE_USE_BEDROCK", "bedrock"),
        ("CLAUDE_CODE_USE_VERTEX", "vertex"),
        ("CLAUDE_CODE_USE_FOUNDRY", "foundry"),
    ),
    "gemini": (("GOOGLE_GENAI_USE_VERTEXAI", "vertex"),),
}
_NO = frozenset({"", "0", "false", "no", "off"})


def provider_of(profile: Profile, command: tuple[str, ...], env: Mapping[str, str]) -> str:
    """Name whom a command asks; a profile of many providers whose command names none: itself. "": a plain command.

    Where a base URL leads does not matter: what stands there speaks for the same provider.
    """
    match profile.name:
        case "pi":
            named = option(command[1:], ("--provider",)) or split_model(model_in(profile, command))[0]
        case "codex":
            named = config_option(command[1:], "model_provider") or _open_source(command)
        case name:
            told = (provider for variable, provider in _ELSEWHERE.get(name, ()) if _is_on(env.get(variable, "")))
            named = next(told, "")
    return (named or profile.provider or (profile.name if profile.program else "")).lower()


def circuit_name(provider: str, account: str, model: str) -> str:
    """Name the circuit of a provider, an account and a model: "anthropic/team-a/claude-sonnet". "": no provider.

    What is too long is cut, and told apart by a digest of the whole.
    """
    if not provider:
        return ""
    parts = (provider, account, family(model))
    # A / parts them, so that none of them may hold one.
    name = "/".join(_UNPRINTABLE.sub("_", part.replace("/", "_")) for part in parts if part)
    if len(name) <= NAME_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: NAME_MAX - 9]}~{digest}"


def split_model(text: str) -> tuple[str, str]:
    """Part "provider/model" as pi writes it; the model itself may hold further slashes. No slash: no provider."""
    provider, slash, model = text.partition("/")
    return (provider, model) if slash and provider and model else ("", text)


def family(model: str) -> str:
    """Name what versions of a model share, which is also what providers limit together. "" for "".

    claude-sonnet-4-5-20250929 is claude-sonnet, gpt-5.1-codex gpt-5, gemini-2.5-pro gemini-pro; a smaller model of
    the same generation is a family of its own (gpt-5-mini), since its limits are its own.
    """
    name = _AROUND.sub("", model.strip().lower().rpartition("/")[2]) or model.strip().lower()
    name = _VENDOR.sub("", name)
    if found := _GPT.match(name):
        sizes = [part for part in _PARTS.split(found[3]) if part in _SIZES]
        return "-".join((f"gpt-{found[1]}{found[2]}", *sizes[:1]))
    parts = [part for part in _PARTS.split(name) if part]
    kept = [part for part in parts if not (_VERSION.fullmatch(part) or part in _PASSING)]
    told = "-".join(kept or parts)
    return f"claude-{_CLAUDE[told]}" if told in _CLAUDE else told


def _open_source(command: tuple[str, ...]) -> str:
    """What `codex --oss` asks: a server on this machine."""
    return (option(command[1:], ("--local-provider",)) or "oss") if "--oss" in command else ""


def _is_on(value: str) -> bool:
    return value.strip().lower() not in _NO
