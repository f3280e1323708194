"""The settings of recovery: defaults that do nothing by themselves, placeholders, other commands for some sources."""

from typing import Any

import pytest
from pydantic import ValidationError

from crewd.assembly import recovery_options
from crewd.config.recovery import Recovery
from crewd.config.settings import Settings


def options(**recovery: Any) -> Any:
    return recovery_options(Settings(recovery=Recovery(**recovery)))


def test_without_a_word_of_the_operator_there_are_plans_and_no_command() -> None:
    rule = options().rule("pi_crew", "pi_crew:/p")
    assert (rule.mode, rule.command, rule.cancel_command) == ("ask", (), ())


def test_the_first_override_that_fits_counts_and_leaves_the_rest_as_it_is() -> None:
    chosen = options(
        mode="ask",
        command=("general", "{run}"),
        cancel_command=("stop",),
        overrides={
            "site": {"root": "/srv/site", "mode": "auto"},
            "beats": {"runtime": "beat", "command": ("beat", "{folder}")},
        },
    )
    assert chosen.rule("pi_crew", "pi_crew:/srv/site").mode == "auto"
    assert chosen.rule("pi_crew", "pi_crew:/srv/site").command == ("general", "{run}")
    assert chosen.rule("beat", "beat:/b").command == ("beat", "{folder}")
    assert chosen.rule("pi_crew", "pi_crew:/srv/other").mode == "ask"


@pytest.mark.parametrize("command", [("x", "{runs}"), ("{folder}{pid}",)])
def test_a_placeholder_that_is_none_is_refused_by_name(command: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match=r"runs|pid"):
        Recovery(command=command)
    with pytest.raises(ValidationError, match=r"runs|pid"):
        Recovery(cancel_command=command)
    Recovery(command=("awk", "{print $1}", "{run}", "{", "}"))


def test_an_override_that_fits_everything_is_refused() -> None:
    with pytest.raises(ValidationError, match="every run"):
        Recovery.model_validate({"overrides": {"all": {"mode": "off"}}})
