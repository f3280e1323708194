"""The root of every table that a person writes: unknown keys are refused, and what was read stays as it is."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
