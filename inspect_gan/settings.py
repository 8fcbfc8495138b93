"""Base of every settings class."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Typed and frozen, numbers finite; an unknown key is an error, never a silently ignored wish."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
