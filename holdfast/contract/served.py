"""Everything that is served under a name: guards and encoders."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from holdfast.contract.encoders import EncoderInfo
from holdfast.contract.models import GuardInfo

__all__ = ["ModelList", "ServedModel", "served_model"]

ServedModel = Annotated[GuardInfo | EncoderInfo, Field(discriminator="kind")]
_SERVED: TypeAdapter[GuardInfo | EncoderInfo] = TypeAdapter(ServedModel)


class ModelList(BaseModel):
    """The answer of `GET /v1/models`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ServedModel, ...]


def served_model(content: object) -> GuardInfo | EncoderInfo:
    """Reads a model's description, as a worker's lease or `GET /v1/models/{name}` has it."""
    return _SERVED.validate_python(content)
