"""Settings of gateway and certifier, read once at start: environment over `holdfast.toml` over defaults."""

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

__all__ = ["ServiceSettings"]


class ServiceSettings(BaseSettings):
    """Settings of the gateway and of the certifier.

    `HOLDFAST_CONFIG` names the TOML file (default `holdfast.toml` in the working folder); unknown keys in it belong to
    other processes and are passed over.
    """

    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", frozen=True, extra="ignore")

    redis_url: SecretStr | None = Field(None, description="Redis (>= 7) to queue in; none: an in-process one.")
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8420, ge=0, le=65535, description="Port the gateway listens on.")
    max_body_bytes: int = Field(20 * 2**20, gt=0, description="Largest request body.")
    max_image_pixels: int = Field(4096 * 4096, gt=0, description="Largest image, checked before it is decoded.")
    max_active_jobs: int = Field(1000, gt=0, description="Jobs queued or running at once; above it, 429.")
    retention_s: int = Field(7 * 24 * 3600, gt=0, description="How long an ended job and its certificate are kept.")
    root_seed: SecretStr | None = Field(
        None,
        description="Derives each job's seed from its request, so that equal requests get equal draws; none: fresh"
        " random seeds. Keep it secret: an attacker who knows the draws beforehand is outside the guarantee.",
    )
    orders_ahead: int = Field(4, gt=0, description="Orders a job may have out beyond its counted prefix.")
    sweep_every_s: float = Field(5.0, gt=0, description="How often the certifier looks at every open job unasked.")

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
