"""What every certificate says of its job and its image, whichever kind of model drew."""

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from holdfast.certificates.noise.resize import RESIZE, resize_norm
from holdfast.contract.jobs import Issued, ModelRef
from holdfast.contract.models import ImageSpace
from holdfast.queue.jobs import JobRecord


def issued(record: JobRecord, notice: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of `Issued`, of a certificate that is written now and not yet signed."""
    common = Issued(
        id=record.id,
        created_at=record.created_at,
        finished_at=datetime.now(UTC),
        model=ModelRef(name=record.spec.model, fingerprint=record.spec.fingerprint),
        seed=record.seed,
        questions_asked=record.questions_asked,
        software=f"holdfast {version('holdfast')}",
        notice=tuple(notice),
        signature=None,
    )
    return dict(common)


def operator_norm(record: JobRecord) -> float:
    """How far the way to the noise space stretches a difference between images; 1 for numeric fields and for a text."""
    space = record.spec.space
    resized = record.pictured and record.spec.kind != "tabular"
    return resize_norm(record.input_size, (space.height, space.width)) if resized else 1.0


def image_space(record: JobRecord) -> dict[str, Any]:
    """The fields of `ImageSpace`: the model's noise space, and the image's own size, none where there was no image."""
    height, width, norm = (*record.input_size, operator_norm(record)) if record.pictured else (None, None, None)
    space = ImageSpace(
        **dict(record.spec.space),
        resize=RESIZE if record.pictured and record.spec.kind != "tabular" else None,
        input_height=height,
        input_width=width,
        native_operator_norm=norm,
    )
    return dict(space)
