"""Settings of gateway and certifier."""

from pydantic import Field, SecretStr

from holdfast.settings import ProcessSettings

__all__ = ["ServiceSettings"]


class ServiceSettings(ProcessSettings):
    """Settings of the gateway and of the certifier; `ProcessSettings` says where they are read from."""

    redis_url: SecretStr | None = Field(None, description="Redis (>= 7) to queue in; none: an in-process one.")
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8420, ge=0, le=65535, description="Port the gateway listens on.")
    max_body_bytes: int = Field(20 * 2**20, gt=0, description="Largest request body.")
    max_image_pixels: int = Field(4096 * 4096, gt=0, description="Largest image, checked before it is decoded.")
    max_active_jobs: int = Field(1000, gt=0, description="Jobs queued or running at once; above it, 429.")
    root_seed: SecretStr | None = Field(
        None,
        description="Derives each job's seed from its request, so that equal requests get equal draws; none: fresh"
        " random seeds. Keep it secret: an attacker who knows the draws beforehand is outside the guarantee.",
    )
    orders_ahead: int = Field(4, gt=0, description="Orders a job may have out beyond its counted prefix.")
    sweep_every_s: float = Field(5.0, gt=0, description="How often the certifier looks at every open job unasked.")
