"""A feature certificate on a terminal: everything that it says, in the order in which people ask."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.contract.features.certificates import (
    FeatureCertificate,
    FeatureTargetAnswer,
    Prediction,
    PredictionMethod,
    PredictionRadius,
    SmoothedEmbedding,
)
from holdfast.contract.models import FeatureReference, ImageSpace
from holdfast_client.render import rounding
from holdfast_client.render.bars import Bar, BarPlot
from holdfast_client.render.units import STOPPED, certified, pixels, resized

T = TypeVar("T")

_REFERENCE: dict[FeatureReference, str] = {
    "clean": "the clean feature",
    "direction": "the smoothed feature's direction, fixed by the separate draws",
}
_WINS_ON: dict[PredictionMethod, str] = {
    "prototype_condition": "the mean feature",
    "cap": "the mean feature",
    "margin_mean": "the mean feature",
    "margin_cdf": "the mean feature",
    "clipped_cdf": "the mean clipped margins",
    "vote": "the votes of single draws",
}
_YES, _NO = "bold green", "bold yellow"


def feature_certificate_view(certificate: FeatureCertificate) -> RenderableType:
    """Everything that a certificate says: its answer, prediction, similarity, radii, embedding and notice."""
    parts: list[RenderableType] = []
    if certificate.target is not None:
        parts += [_answer(certificate, certificate.target), ""]
    parts.append(_summary(certificate))
    if certificate.prediction is not None:
        parts += ["", _prediction_table(certificate.prediction, certificate.space)]
    for table in (*_similarity_tables(certificate), _radius_table(certificate)):
        parts += [] if table is None else ["", table]
    if certificate.embedding is not None:
        parts += ["", _embedding_table(certificate.embedding, certificate.space)]
    return Group(*parts, "", *(Text(line, style="dim") for line in certificate.notice))


def _answer(certificate: FeatureCertificate, target: FeatureTargetAnswer) -> Text:
    label = "" if certificate.prediction is None else f" {certificate.prediction.class_name}"
    what = f"prediction{label}" if target.cosine is None else f"cosine similarity above {target.cosine}"
    if target.certified:
        return Text(f"Yes: the {what} is certified against image radius {target.epsilon}", style=_YES)
    return Text(f"No: the {what} is not certified against image radius {target.epsilon}", style=_NO)


def _summary(certificate: FeatureCertificate) -> Table:
    evidence, signature = certificate.evidence, certificate.signature
    grid = Table.grid(padding=(0, 2))
    if certificate.prediction is not None:
        grid.add_row("Prediction", _prediction(certificate.prediction))
    grid.add_row("Draws", _draws(certificate))
    grid.add_row("Alpha", _risk(certificate))
    grid.add_row("Encoder", Text(f"{certificate.model.name} {certificate.model.fingerprint}", overflow="fold"))
    grid.add_row("Smoothing", f"sigma={certificate.sigma}")
    grid.add_row("Reference", f"{_REFERENCE[certificate.reference]} ({certificate.dimension:,} values)")
    if any(statement.endswith("_mean") for statement in evidence.alpha_split):
        grid.add_row("Mean bound", f"{evidence.mean_bound}, planned for {evidence.horizon:,} draws")
    grid.add_row("Signature", "unsigned" if signature is None else f"signed by {signature.kid}")
    grid.add_row("Id", certificate.id)
    return grid


def _prediction(prediction: Prediction) -> Text:
    best = max(prediction.radii, key=_reach, default=None)
    if best is None or best.radius is None:
        return Text(f"{prediction.class_name}: not certified", style=_NO)
    within = f"certified within image radius {rounding.radius(best.radius)} ({best.method})"
    return Text(f"{prediction.class_name}: {within}", style=_YES)


def _reach(radius: PredictionRadius) -> float:
    return -1.0 if radius.radius is None else radius.radius


def _draws(certificate: FeatureCertificate) -> str:
    evidence, embedding = certificate.evidence, certificate.embedding
    parts = [f"{evidence.passes:,} scored ({STOPPED[evidence.stopped]})"]
    if evidence.selection_passes:
        parts.append(f"{evidence.selection_passes:,} separate")
    if embedding is not None:
        parts.append(f"of which {embedding.draws:,} are averaged")
    return ", ".join(parts)


def _risk(certificate: FeatureCertificate) -> str:
    bounds, embedding = certificate.evidence.alpha, certificate.embedding
    if embedding is None:
        return f"{rounding.risk(bounds)} (risk that any number here is wrong)"
    both, own = rounding.risk(bounds + embedding.alpha), rounding.risk(embedding.alpha)
    return f"{both} (risk that a bound here does not hold, {own} of it the mean's)"


def _prediction_table(prediction: Prediction, space: ImageSpace) -> RenderableType:
    """The label and, by method, the image radius within which it stays, and on what it wins."""
    head = prediction.head
    title = f"Prediction: {prediction.class_name} (of the {len(head.classes):,} classes of {head.name} {head.version})"
    native = resized(space)
    table = _table("method", "the label wins on", "radius", *(["native radius"] if native else []), words=2)
    for row in prediction.radii:
        radii = (row.radius, row.native_radius) if native else (row.radius,)
        table.add_row(row.method, _WINS_ON[row.method], *map(certified, radii))
    return Group(title, _radius_unit(space), table)


def _similarity_tables(certificate: FeatureCertificate) -> list[RenderableType]:
    """How similar the smoothed feature stays to the reference, over epsilon: as a table, and the cosine as bars."""
    bounds = certificate.bounds
    if not bounds:
        return []
    methods = _distinct(row.method for row in bounds)
    table = _table("epsilon", *(f"{what}, {method}" for what in ("cosine", "inner product") for method in methods))
    for epsilon in _distinct(row.epsilon for row in bounds):
        rows = {row.method: row for row in bounds if row.epsilon == epsilon}
        cosines = [_cosine(rows[method].cosine_at_least) for method in methods]
        table.add_row(
            str(epsilon), *cosines, *(rounding.similarity(rows[method].inner_product_at_least) for method in methods)
        )
    title = "Similarity of the smoothed feature to the reference at least, within epsilon"
    parts: list[RenderableType] = [Group(title, f"({pixels(certificate.space)})", table)]
    if len(bounds) > len(methods) and any(row.cosine_at_least is not None for row in bounds):
        bars = [
            Bar(f"{row.epsilon} {row.method:>4}", row.cosine_at_least, _cosine(row.cosine_at_least)) for row in bounds
        ]
        parts.append(BarPlot(bars, "cosine at least, by epsilon and method", 1.0))
    return parts


def _radius_table(certificate: FeatureCertificate) -> RenderableType | None:
    """The image radius within which the cosine stays above each floor; None where none was asked for."""
    if not certificate.radii:
        return None
    native = resized(certificate.space)
    methods = _distinct(row.method for row in certificate.radii)
    table = _table("cosine above", *methods, *(f"native, {method}" for method in methods if native))
    for floor in _distinct(row.cosine_floor for row in certificate.radii):
        rows = {row.method: row for row in certificate.radii if row.cosine_floor == floor}
        own = [certified(rows[method].native_radius) for method in methods if native]
        table.add_row(str(floor), *(certified(rows[method].radius) for method in methods), *own)
    title = "Image radius within which the cosine to the reference stays above a floor"
    return Group(title, _radius_unit(certificate.space), table)


def _embedding_table(embedding: SmoothedEmbedding, space: ImageSpace) -> RenderableType:
    """What an embedding is, and how similar another such embedding of an attacked image is to the clean feature."""
    kind = "token-level values" if embedding.tokens else "values"
    shape = " x ".join(f"{length:,}" for length in embedding.shape)
    title = f"Embedding: {shape} {kind}, the mean of {embedding.draws:,} noisy features"
    table = _table("epsilon", "cosine", "inner product")
    for row in embedding.similarity:
        table.add_row(str(row.epsilon), _cosine(row.cosine_at_least), rounding.similarity(row.inner_product_at_least))
    meaning = "Similarity of such a mean to the clean feature at least, within epsilon"
    return Group(title, meaning, f"({pixels(space)})", table)


def _table(*columns: str, words: int = 0) -> Table:
    """A table whose first `words` columns hold words, the others numbers."""
    table = Table(box=None)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < words else "right")
    return table


def _radius_unit(space: ImageSpace) -> str:
    own = f"; native: in the image's own {space.input_height} x {space.input_width}"
    return f"({pixels(space)}{own if resized(space) else ''})"


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))


def _cosine(bound: float | None) -> str | Text:
    return Text("no claim", style="dim") if bound is None else rounding.similarity(bound)
