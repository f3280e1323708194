"""What a change is asked for with: the body of each POST. A field that is not known here is refused."""

from typing import Annotated, Any, Self

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

KEY = r"^[!-~]{1,128}$"  # of idempotency: printable ASCII without blanks
SCOPE = r"^(daemon|crew:[^\x00-\x1f\x7f]{1,256}|executor:[A-Za-z0-9][A-Za-z0-9._-]{0,127})$"
LINE = r"^[^\x00-\x1f\x7f]*$"
LETTERS_MAX = 1000

Reason = Annotated[str, Field(max_length=1000, pattern=LINE, description="Why, in a sentence.")]
Because = Annotated[str, Field(min_length=1, max_length=1000, pattern=LINE, description="Why, in a sentence.")]
Scope = Annotated[str, Field(pattern=SCOPE, description="daemon, crew:NAME or executor:NAME.")]
LetterKey = Annotated[str, Field(min_length=1, max_length=512)]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Nothing(Asked):
    """No fields."""


class RunAsked(Asked):
    """A run to accept."""

    run: dict[str, Any] = Field(description="The run file, as JSON.")
    base: str = Field(
        "",
        max_length=4096,
        pattern=r"^(/[^\x00]*)?$",
        description="Absolute folder that its relative paths start from.",
    )
    key: str | None = Field(None, pattern=KEY, description="As the header Idempotency-Key.")


class CancelAsked(Asked):
    """Why it is cancelled."""

    reason: Reason = ""


class BuryAsked(Asked):
    """Why it is given up."""

    reason: Because


class PauseAsked(Asked):
    """What is to be started no more."""

    scope: Scope
    drain: bool = Field(False, description="Start no retries either.")
    reason: Reason = ""


class ResumeAsked(Asked):
    """What may be started again."""

    scope: Scope


class LettersAsked(Asked):
    """Which dead letters: those of these keys, or all open ones of one cause."""

    keys: list[LetterKey] = Field([], max_length=LETTERS_MAX, description="Their keys, at most 1000.")
    fingerprint: str = Field("", max_length=128, pattern=LINE, description="All open ones of this cause.")
    dry_run: bool = Field(False, description="Only tell which.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        # All of them is never meant by leaving something out.
        if bool(self.keys) == bool(self.fingerprint):
            raise PydanticCustomError("which_letters", "give either keys or a fingerprint")
        return self


class RedriveAsked(LettersAsked):
    """Which dead letters are to be tried again."""

    limit: int = Field(100, ge=1, le=LETTERS_MAX, description="At most so many.")


class DiscardAsked(LettersAsked):
    """Which dead letters are settled as they are."""

    reason: Because


NothingBody = Annotated[Nothing, Body()]
RunBody = Annotated[RunAsked, Body()]
CancelBody = Annotated[CancelAsked, Body()]
BuryBody = Annotated[BuryAsked, Body()]
PauseBody = Annotated[PauseAsked, Body()]
ResumeBody = Annotated[ResumeAsked, Body()]
RedriveBody = Annotated[RedriveAsked, Body()]
DiscardBody = Annotated[DiscardAsked, Body()]
