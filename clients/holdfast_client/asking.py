"""From the SDK's arguments to the body of a request: only what is given is asked for."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from holdfast.contract.base import Strict
from holdfast.contract.problems import FieldError, InvalidValueError

__all__ = ["ImageFile", "given", "image_data", "request_body"]

ImageFile = str | os.PathLike[str] | bytes
"""A PNG, JPEG or WebP file: its path or its bytes."""


def given(**asked: object) -> dict[str, object]:
    """What was asked for: the service knows the defaults of the rest."""
    return {name: value for name, value in asked.items() if value is not None}


def image_data(image: ImageFile) -> dict[str, object]:
    """The image as a request has it."""
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    return {"data": base64.b64encode(content).decode()}


def request_body(kind: type[Strict], asked: Mapping[str, object]) -> str:
    """The request as JSON, checked.

    Raises:
        InvalidValueError: a value is outside its range.
    """
    try:
        return kind.model_validate(asked).model_dump_json(exclude_unset=True)
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
    errors = [FieldError(path=".".join(map(str, part["loc"])), message=part["msg"]) for part in found]
    raise InvalidValueError("; ".join(_told(part) for part in errors), errors=errors)


def _told(error: FieldError) -> str:
    return f"{error.path}: {error.message}" if error.path else error.message
