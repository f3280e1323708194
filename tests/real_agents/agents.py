"""The four command lines as a person would set them up on a machine of their own: folders, settings, environment.

Nothing here reaches a provider: every address is the mock model's, and every update check and report is off.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = ("claude", "codex", "gemini", "pi")
MODELS = {
    "claude": "claude-sonnet-4-5-20250929",
    "codex": "gpt-5.1-codex",
    "gemini": "gemini-2.5-pro",
    "pi": "mock/mock-model",
}
PROMPT = "Run the command in the task and report."


@dataclass(frozen=True)
class Installed:
    """Where the command lines are: a folder with one npm prefix each (claude, codex, gemini, pi) and one for node."""

    root: Path

    @property
    def path(self) -> str:
        """PATH with the command lines first, and the node that they want before the machine's own."""
        folders = [self.root / name / "node_modules" / ".bin" for name in ("node", *NAMES)]
        return ":".join([*map(str, folders), "/usr/local/bin", "/usr/bin", "/bin"])

    def missing(self) -> list[str]:
        return [name for name in NAMES if not (self.root / name / "node_modules" / ".bin" / name).exists()]


@dataclass(frozen=True)
class Place:
    """A home and a project of one agent's own, below a temporary folder."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def environ(self, installed: Installed, mark: str) -> dict[str, str]:
        """What crewd itself is given: what every worker takes over, and a mark by which leftovers are found."""
        return {
            "PATH": installed.path,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "USER": "somebody",
            "SHELL": "/bin/bash",
            "TMPDIR": str(self.folder / "tmp"),
            "TERM": "dumb",
            "REAL_AGENTS": mark,
        }


def settle(folder: Path, url: str) -> Place:
    """Make home, project and settings for all four, with the mock model at `url`."""
    place = Place(folder)
    for each in (place.home, place.project, folder / "tmp"):
        each.mkdir(parents=True)
    (place.project / "README.md").write_text("A project.\n")
    for path, text in _settings(url).items():
        (place.home / path).parent.mkdir(parents=True, exist_ok=True)
        (place.home / path).write_text(text)
    return place


def variables(name: str, url: str) -> Mapping[str, str]:
    """What a task sets for this agent: where the model is, a key that opens nothing, and no reports to anyone."""
    match name:
        case "claude":
            return {
                "ANTHROPIC_BASE_URL": url,
                "ANTHROPIC_API_KEY": "mock-key",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
                "DISABLE_TELEMETRY": "1",
                "DISABLE_ERROR_REPORTING": "1",
            }
        case "codex":
            return {"MOCK_API_KEY": "mock-key"}
        case "gemini":
            return {
                "GEMINI_API_KEY": "mock-key",
                "GOOGLE_GEMINI_BASE_URL": url,
                "GEMINI_CLI_NO_RELAUNCH": "true",
            }
        case _:
            return {"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0"}


def command(name: str, *, session: str = "") -> list[str]:
    """The whole command line but for the prompt, as a person would type it: nothing is left to a profile."""
    match name:
        case "claude":
            words = ["claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
            words += ["--model", MODELS[name], "--allowedTools=Bash"]
            return [*words, "--resume", session] if session else words
        case "codex":
            words = ["codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
            return [*words, "resume", session] if session else words
        case "gemini":
            words = ["gemini", "-m", MODELS[name], "-o", "stream-json", "--skip-trust", "--yolo"]
            return [*words, "--resume", session] if session else words
        case _:
            words = ["pi", "--model", MODELS[name], "--mode", "json"]
            return [*words, "--session", session] if session else words


def _settings(url: str) -> dict[str, str]:
    gemini = {
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
    }
    costs = {"input": 1, "output": 2, "cacheRead": 0.1, "cacheWrite": 1}
    provider = {
        "baseUrl": f"{url}/v1",
        "api": "openai-completions",
        "apiKey": "mock-key",
        "compat": {"supportsDeveloperRole": False, "supportsReasoningEffort": False},
        "models": [{"id": "mock-model", "contextWindow": 200_000, "maxTokens": 8000, "cost": costs}],
    }
    return {
        ".codex/config.toml": _CODEX.format(model=MODELS["codex"], url=url),
        ".gemini/settings.json": json.dumps(gemini),
        ".pi/agent/models.json": json.dumps({"providers": {"mock": provider}}),
    }


_CODEX = """\
model = "{model}"
model_provider = "mock"
check_for_update_on_startup = false

[analytics]
enabled = false

[feedback]
enabled = false

[model_providers.mock]
name = "Mock"
base_url = "{url}/v1"
env_key = "MOCK_API_KEY"
wire_api = "responses"
"""
