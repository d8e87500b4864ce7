"""Certificates, their checks, problems and progress on a terminal."""

from holdfast_client.render.features import feature_certificate_view
from holdfast_client.render.guard import FrontierPlot, certificate_view
from holdfast_client.render.progress import feature_progress_in_short, progress_in_short, watch
from holdfast_client.render.service import models_table, problem_view, terminal
from holdfast_client.render.verification import verification_view

__all__ = [
    "FrontierPlot",
    "certificate_view",
    "feature_certificate_view",
    "feature_progress_in_short",
    "models_table",
    "problem_view",
    "progress_in_short",
    "terminal",
    "verification_view",
    "watch",
]
