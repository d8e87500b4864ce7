"""Declared encoders: published weights load unchanged and do what they are known to do."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional

from holdfast_worker.models import registry
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.vision.layers import Layer, build_layers
from holdfast_worker.models.vision.towers import LayersTower
from tests.workers.cifar import cifar_encoder, cifar_images, drawn_images

SIZE = (8, 8)
CONV: dict[str, Any] = {"kind": "conv2d", "in": 3, "out": 4, "kernel": 3, "padding": 1}


def specs(*layers: dict[str, Any]) -> tuple[Layer, ...]:
    return TypeAdapter(tuple[Layer, ...]).validate_python(layers)


def conv_weights() -> dict[str, Tensor]:
    return {"0.weight": torch.randn(4, 3, 3, 3), "0.bias": torch.randn(4)}


def tower(*layers: dict[str, Any], stored: dict[str, Tensor]) -> LayersTower:
    network = build_layers(specs(*layers), stored)
    return LayersTower(network, size=SIZE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), dtype=torch.float32)


def accuracy(folder: Path, data: Path, name: Literal["cnn", "resnet20"], sigma: float) -> float:
    encoder = registry.load(cifar_encoder(folder, name), {})
    assert isinstance(encoder, Encoder)
    images, labels = cifar_images(data)
    clean = torch.stack([encoder.prepare(image).clean for image in images])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    head = encoder.heads["linear"]
    assert head.bias is not None
    logits = encoder.features(clean + sigma * noise, sigma) @ head.weight.T + head.bias
    return float((logits.argmax(1).numpy() == labels).mean())


@pytest.mark.data
@pytest.mark.parametrize(("name", "sigma", "known"), [("resnet20", 0.0, 0.917), ("cnn", 0.12, 0.675)])
def test_published_weights_have_their_known_accuracy(
    tmp_path: Path, data: Path, name: Literal["cnn", "resnet20"], sigma: float, known: float
) -> None:
    # The central 99.9 % of what 200 images of a network of this accuracy give.
    low, high = binom.interval(0.999, 200, known)
    assert low <= 200 * accuracy(tmp_path, data, name, sigma) <= high


def cnn(stored: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """The published CNN up to its last layer, written out."""
    for layer in ("0", "2"):
        weight, bias = stored[f"{layer}.weight"], stored[f"{layer}.bias"]
        pixels = functional.conv2d(pixels, weight, bias, stride=2, padding=1).relu()
    return functional.linear(pixels.flatten(1), stored["5.weight"], stored["5.bias"]).relu()


def resnet20(stored: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """ResNet-20 up to its last layer, written out (He et al. 2016, section 4.2, shortcuts of option A)."""

    def normed(name: str, hidden: Tensor) -> Tensor:
        mean, var, weight, bias = (
            stored[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(hidden, mean, var, weight, bias)

    hidden = normed("bn1", functional.conv2d(pixels, stored["conv1.weight"], padding=1)).relu()
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = functional.conv2d(hidden, stored[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = functional.conv2d(normed(f"{name}.bn1", inner).relu(), stored[f"{name}.conv2.weight"], padding=1)
            padding = (width - hidden.shape[1]) // 2
            shortcut = functional.pad(hidden[:, :, ::stride, ::stride], (0, 0, 0, 0, padding, padding))
            hidden = (normed(f"{name}.bn2", inner) + shortcut).relu()
    return hidden.mean(dim=(2, 3))


@pytest.mark.parametrize("name", ["cnn", "resnet20"])
def test_published_weights_compute_what_their_authors_drew(tmp_path: Path, name: Literal["cnn", "resnet20"]) -> None:
    folder = cifar_encoder(tmp_path, name)
    encoder, stored = registry.load(folder, {}), load_file(folder / "model.safetensors")
    assert isinstance(encoder, Encoder)
    settings = json.loads((folder / "holdfast.json").read_text("utf-8"))
    clean = torch.stack([encoder.prepare(image).clean for image in drawn_images(20)[0]])
    mean, std = (torch.tensor(settings[part]).view(3, 1, 1) for part in ("mean", "std"))
    plain = {"cnn": cnn, "resnet20": resnet20}[name](stored, (clean - mean) / std)
    expected = plain / plain.norm(dim=1, keepdim=True)
    torch.testing.assert_close(encoder.features(clean, 0.0), expected, atol=2e-5, rtol=2e-4)
    assert (expected @ expected.T).min() < 0.9  # the images are told apart


def test_a_feature_is_what_comes_before_the_last_linear_layer(tmp_path: Path) -> None:
    widths = []
    for name in ("cnn", "resnet20"):
        encoder = registry.load(cifar_encoder(tmp_path / name, name), {})
        assert isinstance(encoder, Encoder)
        widths.append((encoder.dimension, encoder.token_shape))
    assert widths == [(100, (1, 100)), (64, (1, 64))]


def test_layers_compute_what_they_are_called() -> None:
    torch.manual_seed(0)
    stored = {**conv_weights(), "fc.weight": torch.randn(5, 256), "fc.bias": torch.randn(5)}
    layers = (CONV, {"kind": "relu"}, {"kind": "flatten"}, {"kind": "linear", "name": "fc", "in": 256, "out": 5})
    images = torch.rand(2, 3, *SIZE)
    own = tower(*layers, stored=stored)
    pixels = (images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    hidden = functional.conv2d(pixels, stored["0.weight"], stored["0.bias"], padding=1).relu().flatten(1)
    expected = hidden @ stored["fc.weight"].T + stored["fc.bias"]
    torch.testing.assert_close(own.pooled(own.tokens(images)), expected, atol=1e-4, rtol=1e-4)


def test_the_shortcut_takes_every_other_pixel_and_pads_the_channels_on_both_sides() -> None:
    block = {"kind": "basic_block", "name": "b", "in": 2, "out": 6, "stride": 2}
    unit = {
        "weight": torch.ones(6),
        "bias": torch.zeros(6),
        "running_mean": torch.zeros(6),
        "running_var": torch.ones(6),
    }
    stored = {f"b.bn{index}.{part}": tensor for index in (1, 2) for part, tensor in unit.items()}
    stored |= {"b.conv1.weight": torch.zeros(6, 2, 3, 3), "b.conv2.weight": torch.zeros(6, 6, 3, 3)}
    images = torch.rand(1, 2, 4, 4)
    (found,) = build_layers(specs(block), stored)(images)
    assert torch.equal(found[2:4], images[0, :, ::2, ::2])
    assert not found[[0, 1, 4, 5]].any()


def test_batch_norm_uses_the_statistics_of_training() -> None:
    torch.manual_seed(1)
    stored = {f"1.{part}": torch.rand(4) + 0.5 for part in ("weight", "bias", "running_mean", "running_var")}
    layers = (CONV, {"kind": "batch_norm2d", "features": 4}, {"kind": "average_pool"})
    own = tower(*layers, stored=stored | conv_weights())
    images = torch.rand(5, 3, *SIZE)
    alone = torch.cat([own.tokens(image[None]) for image in images])
    torch.testing.assert_close(own.tokens(images), alone)


def test_images_of_another_size_are_resized_inside() -> None:
    own = tower(CONV, {"kind": "average_pool"}, stored=conv_weights())
    small = torch.rand(1, 3, 4, 4)
    large = functional.interpolate(small, SIZE, mode="bicubic", antialias=True)
    torch.testing.assert_close(own.tokens(small), own.tokens(large))


def test_gradients_reach_the_images_and_no_weight() -> None:
    own = tower(CONV, {"kind": "average_pool"}, stored=conv_weights())
    images = torch.rand(2, 3, *SIZE, requires_grad=True)
    own.pooled(own.tokens(images)).sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in own.parameters())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((CONV | {"name": "conv"}, {"kind": "flatten"}), "weight conv.weight is missing, must have"),
        (
            (CONV | {"out": 5}, {"kind": "flatten"}),
            r"weight 0.weight has shape \(4, 3, 3, 3\), must have \(5, 3, 3, 3\)",
        ),
        ((CONV,), r"end in shape \(4, 8, 8\) per image, must end in one vector"),
        ((CONV, CONV | {"name": "0"}, {"kind": "flatten"}), r"layers.1 does not take .* shape \(4, 8, 8\)"),
    ],
)
def test_layers_that_fit_neither_weights_nor_each_other_are_refused(
    layers: tuple[dict[str, Any], ...], message: str
) -> None:
    with pytest.raises(ModelConfigError, match=message):
        tower(*layers, stored=conv_weights())


def test_weights_that_are_not_finite_are_refused() -> None:
    stored = conv_weights() | {"0.bias": torch.tensor([0, 0, torch.inf, 0])}
    with pytest.raises(ModelConfigError, match=r"weight 0\.bias has a number that is not finite"):
        tower(CONV, {"kind": "flatten"}, stored=stored)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"kind": "dense"}, "does not match any of the expected tags"),
        (CONV | {"dilation": 2}, "Extra inputs"),
        ({"kind": "basic_block", "in": 4, "out": 7}, "exceed in=4 by an even number"),
        ({"kind": "basic_block", "in": 4, "out": 2}, "exceed in=4 by an even number"),
    ],
)
def test_a_layer_that_is_none_is_refused(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        specs(layer)


def test_half_precision_stays_near(tmp_path: Path) -> None:
    folder = cifar_encoder(tmp_path, "cnn")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    features = []
    for dtype in ("float32", "bfloat16"):
        encoder = registry.load(folder, {"dtype": dtype})
        assert isinstance(encoder, Encoder)
        features.append(encoder.features(encoder.prepare(image).clean[None], 0.0)[0])
    assert features[1].dtype == torch.float32
    assert 1e-7 < 1 - float(features[0] @ features[1]) < 1e-3
