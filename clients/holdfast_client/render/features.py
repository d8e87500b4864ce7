"""A feature certificate on a terminal: everything that it says, in the order in which people ask."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.contract.encoders import FeatureReference
from holdfast.contract.features.certificates import (
    FeatureCertificate,
    FeatureTargetAnswer,
    Prediction,
    PredictionRadius,
)
from holdfast_client.render import rounding
from holdfast_client.render.feature_tables import embedding_table, prediction_table, radius_table, similarity_tables
from holdfast_client.render.guard import STOPPED

__all__ = ["feature_certificate_view"]

_REFERENCE: dict[FeatureReference, str] = {
    "clean": "the clean feature",
    "direction": "the smoothed feature's direction, fixed by the separate passes",
}
_YES, _NO = "bold green", "bold yellow"


def feature_certificate_view(certificate: FeatureCertificate) -> RenderableType:
    """Everything that a certificate says: its answer, prediction, similarity, radii, embedding and notice."""
    parts: list[RenderableType] = []
    if certificate.target is not None:
        parts += [_answer(certificate, certificate.target), ""]
    parts.append(_summary(certificate))
    if certificate.prediction is not None:
        parts += ["", prediction_table(certificate.prediction, certificate.space)]
    for table in (*similarity_tables(certificate), radius_table(certificate)):
        parts += [] if table is None else ["", table]
    if certificate.embedding is not None:
        parts += ["", embedding_table(certificate.embedding, certificate.space)]
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
    grid.add_row("Passes", _passes(certificate))
    grid.add_row("Alpha", _risk(certificate))
    grid.add_row("Encoder", Text(f"{certificate.model.name} {certificate.model.fingerprint}", overflow="fold"))
    grid.add_row("Smoothing", f"sigma={certificate.sigma}")
    grid.add_row("Reference", f"{_REFERENCE[certificate.reference]} ({certificate.dimension:,} values)")
    if any(statement.endswith("_mean") for statement in evidence.alpha_split):
        grid.add_row("Mean bound", f"{evidence.mean_bound}, planned for {evidence.horizon:,} passes")
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


def _passes(certificate: FeatureCertificate) -> str:
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
