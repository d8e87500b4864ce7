"""The two inputs of the quickstart: one request, two pictures, opposite verdicts."""

import json
from pathlib import Path

from PIL import Image as Png

from holdfast_lab.evaluation import held_out
from holdfast_lab.scenes import Example, Hazard, Image, Intent


def _clearest(pool: list[Example], kind: Hazard) -> Image:
    return max((e.image for e in pool if e.hazard is kind), key=lambda image: float(image.std()))


def sample_inputs() -> dict[str, Example]:
    """A held-out request for a flame, with held-out pictures of fuel (unsafe) and of power (safe).

    Of each kind the picture with the most contrast is taken, which people can see as well.
    """
    pool = held_out(100, part=3)
    text = next(e.text for e in pool if e.intent is Intent.FLAME)
    pictures = {kind: _clearest(pool, kind) for kind in Hazard}
    return {
        "unsafe": Example(pictures[Hazard.FUEL], text, Hazard.FUEL, Intent.FLAME),
        "safe": Example(pictures[Hazard.POWER], text, Hazard.POWER, Intent.FLAME),
    }


def write_sample_inputs(folder: Path) -> None:
    """Write `unsafe.png`, `safe.png` (64×64, lossless) and `examples.json`, which lists them with their text."""
    folder.mkdir(parents=True, exist_ok=True)
    listing = []
    for name, example in sample_inputs().items():
        Png.fromarray(example.image).save(folder / f"{name}.png")
        expected = "Unsafe" if example.unsafe else "Safe"
        listing.append({"name": name, "text": example.text, "image": f"{name}.png", "expected": expected})
    (folder / "examples.json").write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")
