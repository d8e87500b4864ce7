"""`holdfast models add`, `list` and `check`: models examined here, before anything is served."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from holdfast_worker.inspection.batch_size import BatchPoint, measure_batches, recommended
from holdfast_worker.inspection.examined import Absent, Examined, close
from holdfast_worker.inspection.fingerprints import fingerprint_parts
from holdfast_worker.inspection.naming import (
    add_config,
    fields_of,
    meant,
    parser_of,
    run,
    settings_path,
    settings_there,
)
from holdfast_worker.inspection.self_test import self_test
from holdfast_worker.inspection.settings_file import (
    read_settings_file,
    with_model,
    write_settings_file,
)
from holdfast_worker.models.checkpoint import PACKAGED, model_folder
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.settings import WorkerSettings

_ADD = """\
The checkpoint is loaded as a worker would load it and examined on fixed draws (`holdfast models check`); then the batch
size that is worth it is measured, and the model is written into the TOML file that the worker reads: its table with
folder, fields and batch_limit, and its name among the models that are served. Nothing else in the file changes, and
nothing is written where a check fails.

examples:
  holdfast models add llava-guard /models/LlavaGuard-v1.2-7B-OV-hf policy=multimodal-safety-v1 dtype=bfloat16
  holdfast models add llava-guard /models/LlavaGuard-v1.2-7B-OV-hf defaults.tau=0.3   lay one field over its table
"""

_CHECK = """\
Fixed draws of the default request, in every way that must agree:
  finite   every margin, as it is served, is a number
  company  how far a margin moves, as served, with what else is in its batch: no further than the guard's tie_band
  batches  the same draws one by one, three at a time and all at once (float32, within 1e-5)
  prefix   tails that share a prefix against every pass by itself (float32, within 1e-5)
  dtype    verdicts as served against float32: the share of equal ones; none may differ far from a tie
  vllm     vLLM's verdicts against transformers', where vLLM is installed
  layout   with --layouts: verdicts with the policy first against the published prompt
The tolerance is 1e-5 of the largest margin, or of 1 where all are smaller. An encoder's features must be finite, of
length 1, and the same in every batch.

examples:
  holdfast models check llava-guard --draws 256
  holdfast models check /models/LlavaGuard-v1.2-7B-OV-hf dtype=bfloat16 --json

Exit status: 0 nothing failed, 1 something failed or it cannot be loaded, 2 wrong usage.
"""


def add(argv: list[str]) -> int:
    """The command line of `holdfast models add`."""
    parser = parser_of("models add", "Examine a checkpoint and have workers serve it.", _ADD)
    parser.add_argument("name", metavar="NAME", help="name under which the API serves it")
    parser.add_argument("folder", metavar="FOLDER", help="checkpoint folder")
    _add_examination(parser)
    options = parser.parse_intermixed_args(argv)
    return run(lambda: _add(options))


def list_models(argv: list[str]) -> int:
    """The command line of `holdfast models list`."""
    parser = parser_of("models list", "Load every model that the settings name, and say whether it can be served.", "")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print the list as JSON, and nothing else")
    options = parser.parse_intermixed_args(argv)
    return run(lambda: _list(options))


def check(argv: list[str]) -> int:
    """The command line of `holdfast models check`."""
    parser = parser_of("models check", "Examine a model on fixed draws.", _CHECK)
    parser.add_argument("name", metavar="NAME_OR_FOLDER", help="a name of the settings, or a checkpoint folder")
    _add_examination(parser)
    parser.add_argument("--batches", action="store_true", help="measure which batch size is worth it as well")
    options = parser.parse_intermixed_args(argv)
    return run(lambda: _check(options))


def _add_examination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fields", metavar="field=value", nargs="*", help="fields of its configuration")
    parser.add_argument("--draws", type=int, default=32, help="draws to examine it on (default: 32)")
    parser.add_argument("--layouts", action="store_true", help="compare the other layout of the prompt as well")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, and nothing else")
    add_config(parser)


def _add(options: argparse.Namespace) -> int:
    path, fields = settings_path(options.config), fields_of(options.fields)
    text = read_settings_file(path)
    settings = settings_there(str(path) if path.exists() else "")
    own = options.folder if options.folder in PACKAGED else str(Path(options.folder).resolve())
    table = {**settings.served.get(options.name, {}), "folder": own}
    folder, overrides = meant(options.name, {options.name: table}, fields)
    examined = Examined(folder, overrides, options.draws, options.layouts)
    found = _examine(examined, options.json, measure="batch_limit" not in fields)
    if found["failed"]:
        _say(options.json, f"not added, for a check failed: {', '.join(found['failed'])}", found)
        return 1
    limits = {} if found["batch_limit"] is None else {"batch_limit": found["batch_limit"]}
    usual = WorkerSettings.model_fields["models"].default
    write_settings_file(path, with_model(text, options.name, {"folder": own, **fields, **limits}, usual=usual))
    hidden = [name for name in ("HOLDFAST_MODELS", "HOLDFAST_SERVED") if name in os.environ]
    note = f"; but {hidden[0]} is set, and goes over the file" if hidden else ""
    _say(options.json, f"{options.name} is in {path}{note}", found | {"written": str(path)})
    return 0


def _check(options: argparse.Namespace) -> int:
    settings = settings_there(options.config)
    folder, overrides = meant(options.name, settings.served, fields_of(options.fields))
    examined = Examined(folder, overrides, options.draws, options.layouts)
    found = _examine(examined, options.json, measure=options.batches)
    _say(options.json, f"failed: {', '.join(found['failed'])}" if found["failed"] else "nothing failed", found)
    return 1 if found["failed"] else 0


def _examine(examined: Examined, as_json: bool, *, measure: bool) -> dict[str, Any]:
    """Loads the model, measures its batches, runs its self-test; prints as it goes, unless JSON is wanted."""
    model, folder = examined.load(), model_folder(examined.folder)
    parts = fingerprint_parts(folder, model)
    described: dict[str, Any] = {
        "name": model.config.name,
        "kind": model.config.kind,
        "folder": str(folder),
        "fingerprint": model.fingerprint,
        "parts": parts,
    }
    print_out = _nothing if as_json else sys.stdout.write
    print_out(f"{described['name']} ({described['kind']})\n  {described['fingerprint']}\n")
    for name, part in parts.items():
        print_out(f"  {name:15}{part}\n")
    points = measure_batches(model) if measure and isinstance(model, LlavaGuard | Encoder) else []
    print_out(_batches(points))
    checks, running = [], self_test(examined, model)
    del model  # the test frees it before it loads another
    for found in running:
        checks.append(found)
        print_out(f"{found.outcome:9} {found.name:9}{found.detail}\n")
    return described | {
        "batches": [asdict(point) for point in points],
        "batch_limit": recommended(points).limit if points else None,
        "checks": [asdict(found) for found in checks],
        "failed": [found.name for found in checks if found.outcome == "fail"],
    }


def _nothing(text: str) -> int:
    return len(text)


def _batches(points: Sequence[BatchPoint]) -> str:
    if not points:
        return ""
    lines = [f"{'draws':>8}{'batch_limit':>14}{'passes/s':>12}"]
    for point in points:
        mark = "  recommended" if point is recommended(list(points)) else ""
        lines.append(f"{point.draws:8}{point.limit:14}{point.passes_per_s:12.1f}{mark}")
    return "\n".join(lines) + "\n"


def _list(options: argparse.Namespace) -> int:
    settings = settings_there(options.config)
    names = dict.fromkeys([*settings.models, *settings.served])
    rows = [_row(name, settings) for name in names]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(rows)) + "\n")
    return 0 if all(row["loads"] for row in rows) else 1


def _row(name: str, settings: WorkerSettings) -> dict[str, Any]:
    folder, overrides = meant(name, settings.served, {})
    row = {"name": name, "folder": folder, "served": name in settings.models}
    model = Examined(folder, overrides).try_load()
    if isinstance(model, Absent):
        return row | {"kind": overrides.get("kind"), "loads": False, "fingerprint": None, "problem": model.why}
    close(model)
    return row | {"kind": model.config.kind, "loads": True, "fingerprint": model.fingerprint, "problem": None}


def _lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    width = max(len(row["name"]) for row in rows) + 2
    lines = [f"{'model':{width}}{'kind':10}{'served':8}{'loads':7}folder, fingerprint"]
    for row in rows:
        served, loads = ("yes" if row[key] else "no" for key in ("served", "loads"))
        lines.append(f"{row['name']:{width}}{row['kind'] or '':10}{served:8}{loads:7}{row['folder']}")
        lines.append(f"{'':{width + 25}}{row['fingerprint'] or row['problem']}")
    return lines


def _say(as_json: bool, words: str, described: dict[str, Any]) -> None:
    sys.stdout.write((json.dumps(described, indent=2) if as_json else words) + "\n")
