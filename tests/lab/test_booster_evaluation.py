import numpy as np
import pytest
import torch

from holdfast.certificates.features.radii import feature_bound, feature_radius
from holdfast_lab.booster.evaluation import COSINE_FLOOR, SHIFTS, Row, evaluate, table, variant
from holdfast_lab.booster.images import FolderImages
from holdfast_worker.denoisers.mapper import MapperShape, ResidualMapper
from holdfast_worker.denoisers.unet import BoosterUNet
from holdfast_worker.models.encoder.encoder import Encoder
from tests.lab.booster_world import SIGMA, UNET, WIDTH, small_encoder, write_encoder, write_scenes

DRAWS, ALPHA = 200, 0.01


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return small_encoder(write_encoder(tmp_path_factory.mktemp("encoder") / "small"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> FolderImages:
    return FolderImages(write_scenes(tmp_path_factory.mktemp("scenes") / "scenes", count=3))


def rows(encoders: list[tuple[str, Encoder]], images: FolderImages) -> list[Row]:
    return evaluate(encoders, images, sigma=SIGMA, draws=DRAWS, alpha=ALPHA, say=lambda line: None)


def scores(encoder: Encoder, images: FolderImages, index: int) -> np.ndarray:
    """Scores of the draws against the clean feature, from the encoder alone."""
    prepared = encoder.prepare(images.whole(index))
    clean = encoder.features(prepared.clean[None], 0.0)[0].numpy()
    draws = encoder.draw_features(prepared, f"evaluation/{index}", SIGMA, 0, DRAWS).numpy()
    return np.asarray((1 + draws.astype(float) @ clean.astype(float)) / 2)


@pytest.mark.parametrize("method", ["cdf", "mean"])
def test_a_row_is_the_mean_of_each_images_certificate(encoder: Encoder, images: FolderImages, method: str) -> None:
    (row,) = rows([("none", encoder)], images)
    found = [scores(encoder, images, index) for index in range(3)]
    asked = {"sigma": SIGMA, "alpha": ALPHA, "method": method}
    for place, t in enumerate(SHIFTS):
        bounds = [feature_bound(one, epsilon=t * SIGMA, **asked).inner_product for one in found]  # type: ignore[arg-type]
        assert row.bounds[method][place] == pytest.approx(np.mean(bounds))
    radii = [feature_radius(one, cosine_floor=COSINE_FLOOR, **asked) for one in found]  # type: ignore[arg-type]
    assert row.radii[method] == pytest.approx(np.mean([radius or 0.0 for radius in radii]) / SIGMA)
    assert row.certified[method] == np.mean([radius is not None for radius in radii])


def test_parts_that_do_nothing_change_nothing(encoder: Encoder, images: FolderImages) -> None:
    idle = BoosterUNet(UNET).eval().requires_grad_(False)
    plain, same = rows([("none", encoder), ("P", variant(encoder, idle, None))], images)
    assert same.bounds == plain.bounds
    assert plain.clean == pytest.approx(1, abs=1e-6)


def test_every_part_is_measured_against_the_plain_encoders_feature(encoder: Encoder, images: FolderImages) -> None:
    torch.manual_seed(0)
    mapper = ResidualMapper(MapperShape(width=WIDTH, scale=5.0)).eval().requires_grad_(False)
    plain, turned = rows([("none", encoder), ("M", variant(encoder, None, mapper))], images)
    assert turned.clean < 0.99 * plain.clean


def test_a_variant_leaves_the_encoder_as_it_was(encoder: Encoder) -> None:
    changed = variant(encoder, BoosterUNet(UNET), None)
    assert changed.denoiser is not None
    assert encoder.denoiser is None


def test_the_table_has_a_line_for_each_row(encoder: Encoder, images: FolderImages) -> None:
    head, line = table(rows([("none", encoder)], images)).splitlines()
    assert head.split("|")[1].split() == ["cdf", "0.5σ", "1σ", "1.5σ", "R/σ", "cert"]
    assert len(line) == len(head)
