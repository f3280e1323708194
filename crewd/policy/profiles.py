"""Profiles: how each agent command line is run, ended and resumed so that it can be supervised. Nothing but data.

Every row was seen with the real programs, in the versions that it names, against a model server of our own
(docs/agents.md). What a profile adds makes a program tell what it does; nothing here widens what it may do: that is
the operator's word, in his executor.
"""

from collections.abc import Mapping
from types import MappingProxyType

from crewd.model.agent import Flag, Profile, PromptBy
from crewd.model.plan import StopStep

# What every program needs to reach its provider from behind a proxy, or with certificates of one's own.
_NETWORK = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_NODE = (*_NETWORK, "NODE_EXTRA_CA_CERTS")

CLAUDE = Profile(
    name="claude",
    program="claude",
    provider="anthropic",
    versions=("2.1.329",),
    flags=(
        Flag(("-p",), ("-p", "--print")),
        Flag(("--output-format", "stream-json"), ("--output-format",)),
        Flag(("--verbose",)),  # without it stream-json is refused
        # Without them an answer of 20 s is 21 s of silence; with them the longest gap is that between two tokens.
        Flag(("--include-partial-messages",)),
    ),
    model_flag=("--model",),
    env=MappingProxyType(
        {
            "DISABLE_AUTOUPDATER": "1",  # a program that replaces itself at work is no longer the one that was tried
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
    ),
    env_pass=(
        "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CONFIG_DIR", *_NODE,
    ),
    # As an argument, --allowedTools would swallow it: that takes every word up to the next option.
    prompt_by=PromptBy.STDIN,
    resume=("--resume", "{session}"),
    repeats_cut_calls=False,  # the call that was cut is given a result of its own, which says so
    stop=(StopStep("TERM", 10.0),),  # kills its tools, then exits 143 within 1.4 s
    silent_after=60.0,
    signed_in_by=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    login_files=("$CLAUDE_CONFIG_DIR/.credentials.json", ".claude/.credentials.json"),
)  # fmt: skip

CODEX = Profile(
    name="codex",
    program="codex",
    provider="openai",
    versions=("0.169.0",),
    subcommand=("exec",),
    flags=(Flag(("--json",), ("--json", "--experimental-json")),),
    model_flag=("-m", "--model"),
    env_pass=("CODEX_API_KEY", "CODEX_HOME", *_NETWORK),
    prompt_by=PromptBy.STDIN,
    resume=("resume", "{session}"),  # behind all flags: -s is one of `exec`, and none of `resume`
    repeats_cut_calls=False,  # the call that was cut is told to have been aborted
    # TERM kills it at once, and leaves its tools; INT ends them first.
    stop=(StopStep("INT", 10.0), StopStep("TERM", 5.0)),
    silent_after=120.0,  # it prints no pieces of an answer, only whole ones
    session_file=True,  # model, version and the account of tokens stand nowhere else
    signed_in_by=("CODEX_API_KEY",),  # `codex exec` does not look at OPENAI_API_KEY
    login_files=("$CODEX_HOME/auth.json", ".codex/auth.json"),
)

GEMINI = Profile(
    name="gemini",
    program="gemini",
    provider="google",
    versions=("0.61.0",),
    # Not --skip-trust: a folder that is trusted may bring settings, tools and commands of its own.
    flags=(Flag(("-o", "stream-json"), ("-o", "--output-format")),),
    model_flag=("-m", "--model"),
    # Otherwise the program that is started is a launcher that swallows signals, and the agent is a child of it.
    env=MappingProxyType({"GEMINI_CLI_NO_RELAUNCH": "true"}),
    stopped_exits_0=True,
    env_pass=("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GEMINI_CLI_HOME", *_NODE),
    prompt_by=PromptBy.STDIN,
    resume=("--resume", "{session}"),
    repeats_cut_calls=True,  # its model is not told of the call that was cut, and makes it again
    stop=(StopStep("TERM", 10.0),),  # exits 0 within 2 s; its tools are swept afterwards
    silent_after=60.0,
    session_file=True,  # what answers cost before somebody stops it
    signed_in_by=("GEMINI_API_KEY",),
    login_files=(
        "$GEMINI_CLI_HOME/.gemini/oauth_creds.json",
        "$GEMINI_CLI_HOME/.gemini/gemini-credentials.json",
        ".gemini/oauth_creds.json",
        ".gemini/gemini-credentials.json",
    ),
)

PI = Profile(
    name="pi",
    program="pi",
    provider="",  # of many: its --provider says which
    versions=("0.87.1",),
    flags=(Flag(("--mode", "json"), ("--mode",)), Flag(("-p",), ("-p", "--print"))),
    model_flag=("--model",),
    env=MappingProxyType({"PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0"}),
    env_pass=(
        "ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY",
        "PI_CODING_AGENT_DIR", "PI_CODING_AGENT_SESSION_DIR", *_NODE,
    ),
    # As an argument, one that begins with @ would be the name of a file.
    prompt_by=PromptBy.STDIN,
    resume=("--session", "{session}"),
    repeats_cut_calls=False,  # the call that was cut is told to have no result
    stop=(StopStep("TERM", 10.0),),  # kills its tools, and exits 143 at once
    silent_after=60.0,
    signed_in_by=(
        "ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY",
    ),
    login_files=("$PI_CODING_AGENT_DIR/auth.json", ".pi/agent/auth.json"),
)  # fmt: skip

# Anything else: the command is taken as it is written, and judged as every other.
PLAIN = Profile(name="plain", prompt_by=PromptBy.STDIN)

PROFILES: Mapping[str, Profile] = MappingProxyType({each.name: each for each in (CLAUDE, CODEX, GEMINI, PI, PLAIN)})


def profile_of(name: str) -> Profile:
    """Find a profile; one that nobody knows, "" among them, is plain."""
    return PROFILES.get(name, PLAIN)
