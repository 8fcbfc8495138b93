"""Base of every settings class."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Typed and frozen; an unknown key is an error, never a silently ignored wish."""

    model_config = ConfigDict(frozen=True, extra="forbid")
