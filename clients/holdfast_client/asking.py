"""From keywords to the body of a request: only what is given is asked for."""

import base64
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from holdfast.contract.base import Strict
from holdfast.contract.keywords import ImageFile, nested
from holdfast.contract.problems import FieldError, InvalidValueError


def request_body(kind: type[Strict], keywords: type, asked: Mapping[str, object]) -> str:
    """The request as JSON, checked.

    Raises:
        InvalidValueError: a value is outside its range.
        TypeError: there is no such keyword.
        OSError: the image cannot be read.
    """
    body = {"input": {}, **nested(keywords, asked)}
    if (image := body["input"].get("image")) is not None:
        body["input"]["image"] = _image_data(image)
    if "target" in body:  # a question is answered at any time, unless it is asked otherwise
        body.setdefault("sampling", {}).setdefault("stop", "any_time")
    try:
        return kind.model_validate(body).model_dump_json(exclude_unset=True)
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
    errors = [FieldError(path=".".join(map(str, part["loc"])), message=part["msg"]) for part in found]
    raise InvalidValueError("; ".join(_told(part) for part in errors), errors=errors)


def _image_data(image: ImageFile) -> dict[str, str]:
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    return {"data": base64.b64encode(content).decode()}


def _told(error: FieldError) -> str:
    return f"{error.path}: {error.message}" if error.path else error.message
