"""Settings of gateway and certifier."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from holdfast.settings import ProcessSettings


# Signatures are imported where they are needed: a worker knows these names too, and has no cryptography.
def _is_a_seed(secret: SecretStr) -> SecretStr:
    from holdfast.signing import SigningKey

    SigningKey.from_text(secret.get_secret_value())
    return secret


def _are_keys(retired: tuple[str, ...]) -> tuple[str, ...]:
    from holdfast.signing import key_set

    key_set(None, retired)
    return retired


class ServiceSettings(ProcessSettings):
    """Settings of the gateway and of the certifier."""

    host: str = Field("127.0.0.1", min_length=1, description="Address the gateway listens on.")
    port: int = Field(8420, ge=0, le=65535, description="Port the gateway listens on; 0: a free one.")
    max_body_bytes: int = Field(20 * 2**20, gt=0, description="Largest request body.")
    max_image_pixels: int = Field(4096 * 4096, gt=0, description="Largest image, checked before it is decoded.")
    max_active_jobs: int = Field(1000, gt=0, description="Jobs queued or running at once; above it, 429.")
    root_seed: SecretStr | None = Field(
        None,
        description="Derives each job's seed from its question, so that equal questions get equal draws, whatever alpha"
        " or threshold they are read at; none: fresh random seeds. Keep it secret: an attacker who knows the draws"
        " beforehand is outside the guarantee.",
    )
    signing_key: Annotated[SecretStr, AfterValidator(_is_a_seed)] | None = Field(
        None,
        description="Signs every certificate: a 32-byte Ed25519 seed in base64, which `python -m holdfast.signing`"
        " makes; none: certificates are unsigned.",
    )
    verification_keys: Annotated[tuple[str, ...], AfterValidator(_are_keys)] = Field(
        (),
        description="Public keys (the `x` of each) that signed before the current one: published and accepted still.",
    )
    sweep_every_s: float = Field(5.0, gt=0, description="How often the certifier looks at every open job unasked.")
