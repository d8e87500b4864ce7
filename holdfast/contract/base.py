"""How strictly each part of the contract reads, and the values that guards and encoders share."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.contract.problems import FieldError, InvalidValueError

MAX_FIELDS = 100
"""Fields of one object in a request."""

MAX_DRAWS = 1_000_000
"""Image draws of one certificate."""
MAX_TAILS = 8
"""Tails that score one image draw in every cell."""

Stop = Literal["any_time", "fixed"]
Epsilon = Annotated[float, Field(ge=0, le=1e6)]
Alpha = Annotated[float, Field(ge=1e-12, le=0.5)]
"""The risk of one answer. The verifier has the same range, and that of `Sigma`, in `certificates.document.envelope`."""
Sigma = Annotated[float, Field(ge=1e-6, le=100)]
"""Standard deviation of the image noise, where there is any."""
T = TypeVar("T")


class Frozen(BaseModel):
    """Base of every answer: immutable; a field that a newer service adds is passed over."""

    model_config = ConfigDict(frozen=True)


class Closed(Frozen):
    """Base of what describes models and jobs: what is unknown, or no number, is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Strict(Closed):
    """Base of every request: no error repeats the input."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, fields: object) -> object:
        if isinstance(fields, dict) and len(fields) > MAX_FIELDS:  # each unknown one would cost an error of its own
            raise ValueError(f"an object must have at most {MAX_FIELDS} fields, not {len(fields)}")
        return fields


class ImageData(Strict):
    """An image by value; never by URL."""

    data: str = Field(min_length=1, repr=False, description="Base64 of a PNG, JPEG or WebP file.")


class Confidence(Strict):
    """`alpha` is the risk of the whole response: all its numbers hold together with 1 - alpha."""

    alpha: Alpha | None = None


def or_else(asked: T | None, default: T) -> T:
    """What was asked for, or the model's default where the request is silent."""
    return default if asked is None else asked


def invalid(*errors: tuple[str, str]) -> InvalidValueError:
    """The refusal of a request whose fields, by path, broke these rules."""
    found = tuple(FieldError(path=path, message=message) for path, message in errors)
    return InvalidValueError("; ".join(error.message for error in found), errors=found)
