"""What an encoder's settings may say."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config

CLIP: dict[str, Any] = {"name": "e", "kind": "encoder", "architecture": "clip"}
LAYERS: dict[str, Any] = {
    "name": "e",
    "kind": "encoder",
    "architecture": "layers",
    "layers": [{"kind": "flatten"}],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "noise_height": 8,
    "noise_width": 8,
}


def test_settings_come_from_the_folder_with_the_workers_laid_over(tmp_path: Path) -> None:
    (tmp_path / "holdfast.json").write_text(json.dumps(CLIP | {"defaults": {"sigma": 0.5, "draws": 100}}))
    config = load_config(EncoderConfig, tmp_path, {"name": "mine", "defaults": {"draws": 200}})
    assert (config.name, config.defaults.sigma, config.defaults.draws) == ("mine", 0.5, 200)


@pytest.mark.parametrize(
    ("architecture", "feature"),
    [("clip", "projection"), ("open_clip", "projection"), ("siglip", "projection"), ("llava", "tokens")],
)
def test_each_architecture_has_a_feature_of_its_own(architecture: str, feature: str) -> None:
    assert EncoderConfig.model_validate(CLIP | {"architecture": architecture}).used_feature == feature


def test_declared_layers_have_no_feature_to_choose() -> None:
    assert EncoderConfig.model_validate(LAYERS).used_feature is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (CLIP | {"architecture": "resnet"}, "architecture: Input should be"),
        (CLIP | {"sigma": 0.5}, "sigma: Extra inputs"),
        (CLIP | {"noise_height": 8}, "noise_height and noise_width must be given both or neither"),
        (CLIP | {"mean": [0.5] * 3}, "architecture=clip takes no layers, mean or std"),
        (CLIP | {"layers": LAYERS["layers"]}, "architecture=clip takes no layers, mean or std"),
        (CLIP | {"layer": -2}, "feature=projection reads the last layer; drop layer"),
        (CLIP | {"architecture": "siglip", "feature": "cls"}, "feature=cls is nothing that siglip has"),
        (CLIP | {"architecture": "llava", "feature": "projection"}, "feature=projection is nothing that llava has"),
        (CLIP | {"heads": ["../other/head"]}, "heads.0: String should match pattern"),
        (CLIP | {"heads": [".hidden"]}, "heads.0: String should match pattern"),
        (CLIP | {"heads": ["a", "b", "a"]}, r"heads \['a', 'b', 'a'\] must be different"),
        (CLIP | {"device": "tpu"}, "device: String should match pattern"),
        (LAYERS | {"mean": None}, "architecture=layers needs layers, mean, std"),
        (LAYERS | {"layers": []}, "architecture=layers needs layers, mean, std"),
        (LAYERS | {"noise_height": None, "noise_width": None}, "architecture=layers needs layers, mean, std"),
        (LAYERS | {"feature": "mean"}, "architecture=layers has no feature and no layer to choose"),
        (LAYERS | {"std": [0.5, 0.0, 0.5]}, "std.1: Input should be greater than 0"),
        (LAYERS | {"mean": [0.5, float("nan"), 0.5]}, "mean.1: Input should be a finite number"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        load_config(EncoderConfig, tmp_path, settings)
