"""Where every process reads its settings: flags over environment over one TOML file over defaults, once at start.

The file is the one that is asked for, else the one that `HOLDFAST_CONFIG` names (none where that is empty), else
`holdfast.toml` of the working folder, if there. File and environment serve all roles of the service: a name that is
another role's is passed over, and one that is nobody's is refused.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

DEFAULT_FILE = "holdfast.toml"
_PREFIX = "HOLDFAST_"
_NO_SETTINGS = {"config", "url", "data"}  # environment names that are no setting: this file, the client's, the tests'
_LONGEST_VALUE = 60


class StartError(Exception):
    """What keeps a process from starting: a line for each defect, with the place, the rule and the remedy."""


def _is_a_redis_url(secret: SecretStr) -> SecretStr:
    if not re.match(r"(rediss?|unix)://.", secret.get_secret_value()):
        raise ValueError("must be a URL such as redis://127.0.0.1:6379/0, rediss://… or unix://…")
    return secret


class ProcessSettings(BaseModel):
    """Settings that every process shares."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    redis_url: Annotated[SecretStr, AfterValidator(_is_a_redis_url)] | None = Field(
        None, description="Redis (>= 7) to queue in; none: an in-process one."
    )
    retention_s: int = Field(7 * 24 * 3600, gt=0, description="How long an ended job and its certificate are kept.")


Settings = TypeVar("Settings", bound=ProcessSettings)


def read_settings(
    kind: type[Settings],
    known: Collection[str],
    *,
    config: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Settings:
    """Reads one role's settings.

    Args:
        kind: What to read.
        known: The names of every role's settings.
        config: The TOML file; by default what the environment names, or `holdfast.toml`.
        given: What flags say, over everything else.

    Raises:
        StartError: The file is missing or no TOML, a name is nobody's, or a value is out of range.
    """
    path, stored = _stored(config)
    named = {name[len(_PREFIX) :].lower(): value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    strays = [_stray(f"{path}: {name}", name, known, "") for name in stored if name not in known]
    strays += [
        _stray(f"{_PREFIX}{name.upper()}", name, known, _PREFIX)
        for name in named
        if name not in known and name not in _NO_SETTINGS
    ]
    if strays:
        raise StartError("\n".join(strays))
    mine = kind.model_fields
    sources = (
        {name: (f"{path}: {name}", value) for name, value in stored.items() if name in mine},
        {
            name: (f"{_PREFIX}{name.upper()}", _parsed(kind, name, value))
            for name, value in named.items()
            if name in mine
        },
        {name: (f"--{name.replace('_', '-')}", value) for name, value in (given or {}).items() if name in mine},
    )
    values = {name: value for source in sources for name, value in source.items()}
    try:
        return kind.model_validate({name: value for name, (_, value) in values.items()})
    except ValidationError as error:
        raise StartError("\n".join(_lines(kind, error, {name: at for name, (at, _) in values.items()}))) from None


def _stored(config: str | None) -> tuple[Path, dict[str, Any]]:
    """The TOML file and what it holds."""
    named = os.environ.get(f"{_PREFIX}CONFIG") if config is None else config
    path = Path(named or DEFAULT_FILE)
    if named == "" or (named is None and not path.exists()):
        return path, {}
    try:
        return path, tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise StartError(f"{path} does not exist; correct the name of the settings' file, or make one there") from None
    except OSError as error:
        raise StartError(f"{path} cannot be read ({error.strerror}); name a file of settings") from None
    except UnicodeDecodeError:
        raise StartError(f"{path} must be UTF-8; save it so") from None
    except tomllib.TOMLDecodeError as error:
        what, at = re.fullmatch(r"(.*?)(?: \(at (.*)\))?", str(error), re.DOTALL).groups()  # type: ignore[union-attr]
        raise StartError(f"{path}: {at or 'end of document'}: {what}; correct it: the file must be TOML") from None


def _stray(place: str, name: str, known: Collection[str], prefix: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    written = [prefix + (match.upper() if prefix else match) for match in near]
    return f"{place} is no setting; " + (f"did you mean {written[0]}?" if written else "drop or correct it")


def _parsed(kind: type[ProcessSettings], name: str, text: str) -> Any:
    """An environment's text as the field takes it: JSON where it holds several values."""
    annotation = kind.model_fields[name].annotation
    if get_origin(annotation) not in (tuple, dict):
        return text
    try:
        return json.loads(text)
    except ValueError:
        shape = "an array" if get_origin(annotation) is tuple else "an object"
        raise StartError(f"{_PREFIX}{name.upper()} must be JSON, {shape}; correct it") from None


def _lines(kind: type[ProcessSettings], error: ValidationError, places: Mapping[str, str]) -> Iterator[str]:
    """One line a defect; a secret's value is in none of them."""
    for found in error.errors(include_url=False):
        name, *deeper = map(str, found["loc"])
        shown = repr(found["input"])
        hidden = _is_secret(kind.model_fields[name].annotation) or len(shown) > _LONGEST_VALUE
        value = "" if hidden else f"={shown}"
        rule = found["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
        yield f"{'.'.join((places.get(name, name), *deeper))}{value}: {rule}; correct it"


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))
