"""Where every process reads its settings: environment over `holdfast.toml` over defaults, once at start."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

__all__ = ["ProcessSettings"]


class ProcessSettings(BaseSettings):
    """Settings that every process shares.

    `HOLDFAST_CONFIG` names the TOML file (default `holdfast.toml` in the working folder). One file serves them all:
    keys that are another process's are passed over.
    """

    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", frozen=True, extra="ignore")

    retention_s: int = Field(7 * 24 * 3600, gt=0, description="How long an ended job and its certificate are kept.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the TOML file over the defaults above."""
        toml = Path(os.environ.get("HOLDFAST_CONFIG", "holdfast.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml)
