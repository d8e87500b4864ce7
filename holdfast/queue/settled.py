"""What an encoder's job fixes once, before its draws are scored, for all its workers and for its certificate."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Settled"]


@dataclass(frozen=True, eq=False)
class Settled:
    """What the first worker of a job found, from draws that are scored nowhere (maths.md §6).

    Attributes:
        reference: The unit vector u, little-endian float32.
        operator_norm: Of the resize from the image's own size to the noise space, rounded up; 1 without one.
        label: The class whose prediction is certified; None without a head.
        cosines: ⟨u, p_k⟩ for every prototype; None without prototypes.
        distances: ‖p_label − p_k‖ for every prototype; None without prototypes.
        embedding: The smoothed embedding, little-endian float32; empty where none was asked for.
        shape: Its shape, (E,) or (tokens, width).
    """

    reference: bytes
    operator_norm: float
    label: int | None = None
    cosines: tuple[float, ...] | None = None
    distances: tuple[float, ...] | None = None
    embedding: bytes = b""
    shape: tuple[int, ...] = ()

    def to_fields(self) -> dict[str, bytes]:
        """The fields of the job's hash."""
        numbers = {
            "operator_norm": self.operator_norm,
            "label": self.label,
            "cosines": self.cosines,
            "distances": self.distances,
            "shape": self.shape,
        }
        return {"reference": self.reference, "embedding": self.embedding, "numbers": json.dumps(numbers).encode()}

    @classmethod
    def from_fields(cls, fields: Mapping[str, bytes]) -> "Settled":
        """Reads the job's hash."""
        numbers = json.loads(fields["numbers"])
        lists = {name: None if numbers[name] is None else tuple(numbers[name]) for name in ("cosines", "distances")}
        return cls(
            reference=fields["reference"],
            operator_norm=numbers["operator_norm"],
            label=numbers["label"],
            embedding=fields["embedding"],
            shape=tuple(numbers["shape"]),
            **lists,
        )
