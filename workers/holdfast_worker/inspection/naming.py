"""What commands on models share: which model is meant, the fields beside it, and how a refusal is said."""

import argparse
import copy
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from holdfast.roles import read
from holdfast.settings import DEFAULT_FILE, StartError
from holdfast_worker.inspection.settings_file import SettingsFileError, nested
from holdfast_worker.models.checkpoint import PACKAGED
from holdfast_worker.models.errors import ModelConfigError, ModelError
from holdfast_worker.models.folder import read_settings
from holdfast_worker.settings import WorkerSettings


def run(work: Callable[[], int]) -> int:
    """Runs a command's work: what it refuses is said in one line."""
    try:
        return work()
    except (ModelError, SettingsFileError, StartError) as error:
        sys.stderr.writelines(f"error: {line}\n" for line in str(error).splitlines())
    except torch.OutOfMemoryError:
        sys.stderr.write("error: the model does not fit the device's memory; use a smaller one, or another device\n")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 1


def parser_of(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The parser of ``holdfast COMMAND``; its epilog is printed as it is written."""
    layout = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(
        prog=f"holdfast {command}", description=description, epilog=epilog, formatter_class=layout, allow_abbrev=False
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """The option that every command of models has."""
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file of settings (default: HOLDFAST_CONFIG, then holdfast.toml)"
    )


def settings_path(given: str | None) -> Path:
    """The file that the worker reads where ``given`` is what it is told."""
    return Path(given or os.environ.get("HOLDFAST_CONFIG") or DEFAULT_FILE)


def settings_there(given: str | None) -> WorkerSettings:
    """The worker's settings as it would read them.

    Raises:
        StartError: They are none.
    """
    return read(WorkerSettings, config=given)


def fields_of(words: Sequence[str]) -> dict[str, Any]:
    """Fields written as ``name=value``: a value of TOML, and what is none is a text.

    Raises:
        ModelConfigError: A word is no field, or one that the command names otherwise.
    """
    fields = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not all(part.isidentifier() for part in name.split(".")) or name in ("name", "folder"):
            raise ModelConfigError(f"{word!r} must be field=value, such as dtype=bfloat16; correct it")
        fields[name] = _value(value)
    return fields


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text


def meant(name: str, served: Mapping[str, Mapping[str, Any]], fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The folder (or the name of a model that ships) and the overrides that a name or folder stands for.

    Args:
        name: A name in ``served``, one that ships, or a folder.
        served: The settings' table of models.
        fields: What is laid over its settings.
    """
    if name in served or name in PACKAGED:
        table = dict(copy.deepcopy(served.get(name, {})))  # `nested` changes what it is given, at every depth
        return str(table.pop("folder", name)), {**nested(fields, table), "name": name}
    overrides = nested(fields, {})
    if Path(name).is_dir():
        overrides["name"] = read_settings(Path(name), {}).get("name", Path(name).resolve().name)
    return name, overrides
