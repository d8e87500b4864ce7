"""What an encoder's job fixes once, before its draws are scored, for all its workers and for its certificate."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

_RAW = ("reference", "embedding")


@dataclass(frozen=True, eq=False)
class Settled:
    """What the first worker of a job found, from draws that are scored nowhere (maths.md §6).

    Attributes:
        reference: The unit vector u, little-endian float32.
        label: The class whose prediction is certified; None without a head.
        cosines: ⟨u, p_k⟩ for every prototype; None without prototypes.
        distances: ‖p_label − p_k‖ for every prototype; None without prototypes.
        embedding: The smoothed embedding, little-endian float32; empty where none was asked for.
        shape: Its shape, (E,) or (tokens, width).
    """

    reference: bytes
    label: int | None = None
    cosines: tuple[float, ...] | None = None
    distances: tuple[float, ...] | None = None
    embedding: bytes = b""
    shape: tuple[int, ...] = ()

    def to_fields(self) -> dict[str, bytes]:
        """The fields of the job's hash: the long ones as bytes, the rest as JSON."""
        numbers = asdict(self)
        raw: dict[str, bytes] = {name: numbers.pop(name) for name in _RAW}
        return {**raw, "numbers": json.dumps(numbers).encode()}

    @classmethod
    def from_fields(cls, fields: Mapping[str, bytes]) -> "Settled":
        """Reads the job's hash."""
        return _SETTLED.validate_python({**json.loads(fields["numbers"]), **{name: fields[name] for name in _RAW}})


_SETTLED = TypeAdapter(Settled)
