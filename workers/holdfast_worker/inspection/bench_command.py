"""`holdfast bench`: how fast a model serves its default request on this machine."""

import argparse
import json
import sys
from dataclasses import asdict

import torch

from holdfast_worker.inspection.bench import Bench, bench
from holdfast_worker.inspection.examined import Examined, close
from holdfast_worker.inspection.naming import add_config, fields_of, meant, parser_of, run, settings_there

_EPILOG = """\
A draw is one image noise, a pass one verdict on it (an encoder's draw is one feature). The rate is that of the fastest
run: other load on the machine only ever adds. A draw costs its prefill and its tails' positions, which workers measure
so and announce. Utilisation is the arithmetic of a draw, counted from the model's shapes, times draws per second, over
what square matrix products of the same number type reach here. A frontier takes as many draws as the default request
may spend, at the measured rate, and the certificate's own time; it usually stops earlier.

examples:
  holdfast bench
  holdfast bench llava-guard --seconds 30
  holdfast bench /models/LlavaGuard-v1.2-7B-OV-hf dtype=bfloat16 --json
"""


def command(argv: list[str]) -> int:
    """The command line of `holdfast bench`."""
    parser = parser_of("bench", "Measure how fast a model serves its default request on this machine.", _EPILOG)
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default="reference-guard", help="a name of the settings, or a folder"
    )
    parser.add_argument("fields", metavar="field=value", nargs="*", help="fields of its configuration")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for the runs (default: 5; one at least)")
    parser.add_argument("--draws", type=int, help="draws in a run (default: as many as fill one forward pass)")
    parser.add_argument("--threads", type=int, help="CPU threads of one pass (default: torch's)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else")
    add_config(parser)
    options = parser.parse_intermixed_args(argv)
    if options.draws is not None and options.draws < 1:
        parser.error(f"--draws {options.draws} must be at least 1")
    return run(lambda: _bench(options))


def _bench(options: argparse.Namespace) -> int:
    settings = settings_there(options.config)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    folder, overrides = meant(options.name, settings.served, fields_of(options.fields))
    model = Examined(folder, overrides).load()
    try:
        found = bench(model, seconds=options.seconds, draws=options.draws)
    finally:
        close(model)
    sys.stdout.write((json.dumps(asdict(found), indent=2) if options.json else table(found)) + "\n")
    return 0


def table(found: Bench) -> str:
    """The figures for people."""
    rows = [
        (found.name, f"{found.dtype} on {found.device}, {found.threads} threads, load average {found.load:.1f}"),
        ("draws/s", f"{found.draws_per_s:,.4g} ({found.draws} draws in a run)"),
        ("passes/s", f"{found.passes_per_s:,.4g} ({found.tails} tails in {found.cells} cells a draw)"),
        ("stages", ", ".join(f"{stage} {share:.0%}" for stage, share in found.stages.items()) or "not told apart"),
    ]
    if found.prefill_s is not None and found.position_s is not None:
        rows.append(("cost", f"{found.prefill_s * 1e3:.3g} ms a draw, {found.position_s * 1e6:.3g} µs a tail position"))
    if found.flops_per_draw is not None and found.peak_flops is not None and found.utilisation is not None:
        used, peak = found.flops_per_draw / 1e9, found.peak_flops / 1e9
        rows.append(("utilisation", f"{found.utilisation:.1%} ({used:,.4g} GFLOP a draw, {peak:,.4g} GFLOP/s reached)"))
    certificate = "" if found.certificate_s is None else f", {found.certificate_s * 1e3:.2g} ms of them the certificate"
    rows.append(("frontier", f"{found.frontier_s:,.3g} s for {found.max_draws:,} draws{certificate}"))
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:{width}}{value}" for name, value in rows)
