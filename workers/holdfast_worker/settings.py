"""Settings of a worker."""

from typing import Any

from pydantic import Field

from holdfast.settings import ProcessSettings


class WorkerSettings(ProcessSettings):
    """Settings of a worker.

    A guard or encoder that is not shipped is served by a table of its own in the TOML file: `folder`, and the fields
    of `GuardConfig`, `TabularConfig` or `EncoderConfig` that the folder's `holdfast.json` does not give.

        models = ["llava-guard"]
        [served.llava-guard]
        folder = "/models/LlavaGuard-v1.2-7B-OV-hf"
        policy = "multimodal-safety-v1"
    """

    models: tuple[str, ...] = Field(
        ("reference-guard", "reference-encoder"), min_length=1, description="Names of the guards and encoders to serve."
    )
    served: dict[str, dict[str, Any]] = Field({}, description="Per guard or encoder: its folder and configuration.")
    batch_orders: int | None = Field(
        None, gt=0, description="Orders taken together, across jobs; none: as many as fill one forward pass."
    )
    linger_s: float = Field(0.005, ge=0, description="How long a batch that is not full waits for more orders.")
    claim_every_s: float = Field(3.0, gt=0, description="How often to look for orders of dead workers.")
    torch_threads: int | None = Field(None, gt=0, description="CPU threads of one pass; none: torch decides.")
