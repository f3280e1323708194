"""Providers: versions of one model share a circuit, and nobody else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.profiles import PROFILES
from crewd.policy.provider import NAME_MAX, circuit_name, family, provider_of, split_model

FAMILIES = {
    "claude-sonnet": [
        "claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "claude-3-5-sonnet-20241022", "claude-3-7-sonnet-latest",
        "sonnet", "Sonnet", "sonnet[1m]", "sonnet:high", "claude-sonnet-4@20250514", "anthropic/claude-sonnet-4.5",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-3-5-sonnet-20240620-v1:0",
    ],
    "claude-opus": ["claude-opus-4-1-20250805", "opus", "opusplan", "anthropic/claude-opus-4.1"],
    "claude-haiku": ["claude-3-haiku-20240307", "claude-haiku-4-5", "haiku"],
    "gpt-5": ["gpt-5", "gpt-5.1-codex", "gpt-5-codex", "gpt-5.1-codex-max", "openai/gpt-5.1", "gpt-5-2025-08-07"],
    "gpt-5-mini": ["gpt-5-mini", "gpt-5.1-codex-mini", "gpt-5-mini-2025-08-07"],
    "gpt-5-pro": ["gpt-5-pro"],
    "gpt-4o": ["gpt-4o", "chatgpt-4o-latest", "gpt-4o-2024-08-06"],
    "gpt-4o-mini": ["gpt-4o-mini", "gpt-4o-mini-2024-07-18"],
    "gpt-4": ["gpt-4", "gpt-4.1", "gpt-4-0613"],
    "o3": ["o3", "o3-2025-04-16"],
    "o4-mini": ["o4-mini"],
    "gemini-pro": ["gemini-2.5-pro", "gemini-3-pro-preview", "models/gemini-1.5-pro-002", "gemini-pro"],
    "gemini-flash": ["gemini-2.5-flash", "gemini-flash-latest", "gemini-2.5-flash-preview-05-20"],
    "gemini-flash-lite": ["gemini-2.5-flash-lite", "gemini-2.5-flash-lite-preview-06-17"],
    "deepseek": ["deepseek-v3.2"],
    "qwen3-coder": ["qwen3-coder"],
    "mock-model": ["mock-model", "mock/mock-model"],
    "20250929": ["20250929"],
    "": ["", "  "],
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "expected"), [(model, name) for name, models in FAMILIES.items() for model in models]
)
def test_versions_of_one_model_are_one_family(model: str, expected: str) -> None:
    assert family(model) == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_its_own_family(name: str) -> None:
    assert family(name) == name


@pytest.mark.parametrize(
    ("provider", "account", "model", "expected"),
    [
        ("anthropic", "", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet"),
        ("anthropic", "team-a", "claude-sonnet-4-5-20250929", "anthropic/team-a/claude-sonnet"),
        ("anthropic", "team-a", "", "anthropic/team-a"),
        ("openai", "", "", "openai"),
        ("openrouter", "", "anthropic/claude-opus-4.1", "openrouter/claude-opus"),
        ("openai", "a/b c", "gpt-5", "openai/a_b_c/gpt-5"),
        ("", "team-a", "gpt-5", ""),
    ],
)
def test_a_circuit_is_called_by_provider_account_and_family(
    provider: str, account: str, model: str, expected: str
) -> None:
    assert circuit_name(provider, account, model) == expected


@given(st.text(min_size=1), st.text(max_size=300), st.text(max_size=300))
def test_a_circuits_name_is_short_and_printable_whatever_it_is_made_of(
    provider: str, account: str, model: str
) -> None:
    name = circuit_name(provider, account, model)
    assert 0 < len(name) <= NAME_MAX
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    assert name.count("/") <= 2


def test_accounts_that_are_long_and_alike_have_circuits_of_their_own() -> None:
    one, other = (circuit_name("p", "x" * 200 + end, "m") for end in "ab")
    assert one != other
    assert len(one) == len(other) == NAME_MAX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mock/mock-model", ("mock", "mock-model")),
        ("openrouter/anthropic/claude-opus", ("openrouter", "anthropic/claude-opus")),
        ("sonnet", ("", "sonnet")),
        ("/x", ("", "/x")),
        ("x/", ("", "x/")),
        ("", ("", "")),
    ],
)
def test_a_model_is_parted_from_its_provider(text: str, expected: tuple[str, str]) -> None:
    assert split_model(text) == expected


PROVIDERS = [
    ("claude", "claude", {}, "anthropic"),
    ("claude", "claude", {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}, "anthropic"),
    ("claude", "claude", {"CLAUDE_CODE_USE_BEDROCK": "1"}, "bedrock"),
    ("claude", "claude", {"CLAUDE_CODE_USE_BEDROCK": "0", "CLAUDE_CODE_USE_VERTEX": "true"}, "vertex"),
    ("codex", "codex exec", {}, "openai"),
    ("codex", 'codex exec -c model_provider="azure"', {}, "azure"),
    ("codex", "codex exec --config=model_provider=mock", {}, "mock"),
    ("codex", "codex exec --oss", {}, "oss"),
    ("codex", "codex exec --oss --local-provider ollama", {}, "ollama"),
    ("gemini", "gemini", {}, "google"),
    ("gemini", "gemini", {"GOOGLE_GENAI_USE_VERTEXAI": "true"}, "vertex"),
    ("pi", "pi --provider Mock --model m", {}, "mock"),
    ("pi", "pi --provider=mock", {}, "mock"),
    ("pi", "pi --model openrouter/anthropic/claude-opus", {}, "openrouter"),
    ("pi", "pi --model sonnet", {}, "pi"),
    ("plain", "make test", {}, ""),
]


@pytest.mark.parametrize(("profile", "command", "env", "expected"), PROVIDERS)
def test_a_provider_is_whom_the_command_asks(profile: str, command: str, env: dict[str, str], expected: str) -> None:
    assert provider_of(PROFILES[profile], tuple(command.split()), env) == expected
