"""The tabular guard: what it votes, what it draws, what it refuses."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.stats import chi2, kstest

from holdfast.certificates import UniformKernel, field_draws, tail_masks
from holdfast.questions import question_of
from holdfast.queue.orders import Order
from holdfast_worker.models import registry
from holdfast_worker.models.draws import Draws, noisy_images
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError, ModelOutputError
from holdfast_worker.models.guard.tabular import TabularGuard
from holdfast_worker.sampling.guard import GuardKind, draws_of, margins
from tests.workers.builders import FIELDS, SEED, TABLE, ready_for, table_folder, tally_of, unsafe_of

NO_TEXT: dict[str, Any] = {"threat": {"text": {"kind": "none"}}}
NO_NUMBERS: dict[str, Any] = {"threat": {"image": {"norm": "none"}}}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., TabularGuard]:
    def one(widths: tuple[int, ...] = (7, 6, 1), **settings: Any) -> TabularGuard:
        guard = registry.load(table_folder(tmp_path, widths, **settings), {})
        assert isinstance(guard, TabularGuard)
        return guard

    return one


@pytest.fixture
def guard(load: Callable[..., TabularGuard]) -> TabularGuard:
    return load()


def plain_logit(folder: Path, colour: int, state: int, numeric: NDArray[np.float64]) -> float:
    """The network by hand, in float64: one-hot fields in order, then the numbers."""
    row = np.concatenate((np.eye(3)[colour], np.eye(2)[state], numeric))
    weights = {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    hidden = np.maximum(0, weights["layers.0.weight"] @ row + weights["layers.0.bias"])
    return float((weights["layers.1.weight"] @ hidden + weights["layers.1.bias"])[0])


def test_margins_are_the_networks_own_on_every_categorical_value(guard: TabularGuard, tmp_path: Path) -> None:
    prepared = guard.inputs.prepare(FIELDS)
    tails = np.array(list(itertools.product(range(3), range(2))))
    (found,) = guard.margins([Draws(prepared, SEED, 0.0, 0, 1, tails[None, None])])
    standard = np.array([(31 - 40) / 12, (64 - 70) / 9])
    expected = [plain_logit(tmp_path, colour, state, standard) for colour, state in tails]
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
    assert min(expected) < 0 < max(expected)


def test_an_input_is_its_value_indexes_and_standardised_numbers(guard: TabularGuard) -> None:
    prepared = guard.inputs.prepare(FIELDS)
    assert prepared.tail_base.tolist() == [0, 1]
    np.testing.assert_allclose(prepared.clean[0, 0], [-0.75, -round(2 / 3 * 2**18) / 2**18], rtol=0)


def test_a_guard_describes_itself_as_the_contract_wants(guard: TabularGuard) -> None:
    info = guard.info
    assert (info.kind, info.alphabets, info.limits.max_tokens) == ("tabular", (3, 2), 2)
    assert (info.space.channels, info.space.height, info.space.width) == (1, 1, 2)
    assert [field.name for field in info.fields] == ["colour", "age", "state", "pulse"]
    assert type(info).model_validate_json(info.model_dump_json()) == info


@pytest.mark.parametrize("tails", [1, 3])
def test_votes_are_those_under_the_masks_that_the_verifier_draws_again(
    guard: TabularGuard, tmp_path: Path, tails: int
) -> None:
    ready = ready_for(guard, noise={"beta": 0.5, "sigma": 1.0}, sampling={"tails": tails})
    tally = tally_of(guard, ready, 3, 40)
    masks = tail_masks(question_of(ready.spec), positions=2, seed=SEED, start=3, stop=40)
    noise = field_draws([UniformKernel(0.5, 3), UniformKernel(0.5, 2)] * tails, seed=SEED, start=3, stop=40)
    codes = np.where(masks, noise.replacement.reshape(masks.shape), [0, 1])
    prepared = guard.inputs.prepare(FIELDS)
    numeric = noisy_images(Draws(prepared, SEED, 1.0, 3, 40, codes[:, :, None]))[:, 0, 0].double().numpy()
    votes = [[plain_logit(tmp_path, *code, row) > 0 for code in own] for own, row in zip(codes, numeric, strict=True)]
    np.testing.assert_array_equal(unsafe_of(tally, ready)[:, :, 0], votes)
    assert tally.votes.positions == 2
    assert 0 < np.mean(votes) < 1


def test_drawn_categories_follow_the_stated_kernel(guard: TabularGuard) -> None:
    n, beta = 20_000, 0.3
    ready = ready_for(guard, noise={"beta": beta})
    (draws,) = draws_of(guard, ready, Order("job", 0, 0, n))
    kernel = [np.where(np.arange(size) == own, 1 - beta, beta / (size - 1)) for size, own in ((3, 0), (2, 1))]
    expected = n * np.outer(*kernel).ravel()
    counts = np.bincount(draws.tails[:, 0, 0] @ [2, 1], minlength=6)
    statistic = ((counts - expected) ** 2 / expected).sum()
    # Six joint values, five degrees of freedom: a false failure has probability 1e-6.
    assert statistic < chi2.isf(1e-6, 5)


def test_numeric_noise_is_gaussian_in_standard_units_and_apart_from_the_categories(guard: TabularGuard) -> None:
    ready = ready_for(guard, noise={"sigma": 0.5})
    (draws,) = draws_of(guard, ready, Order("job", 0, 0, 20_000))
    noise = (noisy_images(draws) - draws.prepared.clean).flatten(1).double().numpy() / 0.5
    # Three tests at 1e-7 each: a false failure has probability below 1e-6 for all.
    assert all(kstest(column, "norm").pvalue > 1e-7 for column in noise.T)
    kept = draws.tails[:, 0, 0, 0] == 0
    assert kstest(noise[kept, 0], "norm").pvalue > 1e-7


def test_the_tally_is_the_same_however_the_draws_are_cut(guard: TabularGuard) -> None:
    ready = ready_for(guard)
    whole = unsafe_of(tally_of(guard, ready, 0, 50), ready)
    parts = [unsafe_of(tally_of(guard, ready, a, b), ready) for a, b in ((0, 3), (3, 33), (33, 50))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_without_a_text_threat_the_categories_stay_and_no_mask_matters(guard: TabularGuard) -> None:
    ready = ready_for(guard, **NO_TEXT)
    (draws,) = draws_of(guard, ready, Order("job", 0, 0, 8))
    assert (draws.tails == [0, 1]).all()
    assert tally_of(guard, ready, 0, 8).votes.positions == 0


def test_without_an_image_threat_the_numbers_stay(guard: TabularGuard) -> None:
    ready = ready_for(guard, noise={"beta": 0.5}, **NO_NUMBERS)
    (draws,) = draws_of(guard, ready, Order("job", 0, 0, 64))
    (margins,) = guard.margins([draws])
    codes = draws.tails[:, 0, 0] @ [2, 1]
    assert len(set(codes.tolist())) == 6
    assert all(np.ptp(margins[codes == code]) < 1e-5 for code in range(6))


def test_orders_of_several_jobs_in_one_batch_vote_as_they_do_alone(guard: TabularGuard) -> None:
    jobs = [ready_for(guard), ready_for(guard, **NO_TEXT), ready_for(guard, **NO_NUMBERS)]
    wanted = [(Order("job", 0, 2, 20 + index), ready) for index, ready in enumerate(jobs)]
    for (order, ready), found in zip(wanted, margins(guard, wanted), strict=True):
        np.testing.assert_allclose(found, margins(guard, [(order, ready)])[0], atol=1e-5)


def test_more_draws_than_a_run_of_the_network_holds_are_run_in_parts(guard: TabularGuard) -> None:
    ready = ready_for(guard, sampling={"tails": 2})
    (draws,) = draws_of(guard, ready, Order("job", 0, 0, 100))
    whole = guard.margins([draws])[0]
    guard.batching.limit = 48
    assert guard.room(ready.prepared, tails=2) == 24
    np.testing.assert_allclose(guard.margins([draws])[0], whole, atol=guard.info.tie_band)


def test_a_tabular_guard_scores_a_draw_by_one_tail_unless_its_folder_says_otherwise(
    load: Callable[..., TabularGuard],
) -> None:
    assert load().info.defaults.tails == 1
    assert load(defaults={"beta": 0.3, "tails": 3}).info.defaults.tails == 3


@pytest.mark.parametrize(("dtype", "band"), [("float32", 1e-5), ("float64", 1e-12)])
def test_the_band_of_ties_goes_by_the_number_type_unless_the_settings_say(
    load: Callable[..., TabularGuard], dtype: str, band: float
) -> None:
    assert load(dtype=dtype).info.tie_band == band
    assert load(dtype=dtype, tie_band=0.25).info.tie_band == 0.25


def test_one_layer_is_a_linear_model(load: Callable[..., TabularGuard]) -> None:
    guard = load((7, 1))
    prepared = guard.inputs.prepare(FIELDS)
    margins = [
        guard.margins([Draws(prepared, SEED, 0.0, 0, 1, np.array([[[code]]]))])[0].item()
        for code in ([0, 0], [0, 1], [2, 0], [2, 1])
    ]
    assert margins[1] - margins[0] == pytest.approx(margins[3] - margins[2], abs=1e-5)


def test_warming_up_runs_an_order(load: Callable[..., TabularGuard]) -> None:
    GuardKind(load()).warm_up()
    broken = load()
    broken._layers[0][0].fill_(3e38)
    with pytest.raises(ModelOutputError, match="4 of 4 margins are not finite"):
        GuardKind(broken).warm_up()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "puce"}, "field colour must be one of its 3 values"),
        ({"colour": 1.0}, "field colour must be one of its 3 values"),
        ({"age": "old"}, "field age must be a finite number"),
        ({"age": True}, "field age must be a finite number"),
        ({"age": float("inf")}, "field age must be a finite number"),
        ({"age": 1e308}, "too large to be standardised in float32"),
        ({"height": 1.0}, "the 5 fields given must be exactly: colour, age, state, pulse"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_the_rule(
    guard: TabularGuard, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputRefusedError, match=message) as refusal:
        guard.inputs.prepare(FIELDS | change)
    assert "puce" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"means": [40.0]}, "1 means and 2 stds must be one per numeric field, of which there are 2"),
        ({"stds": [12.0, 0.0]}, r"stds\.1: Input should be greater than 0"),
        ({"fields": TABLE["fields"][1::2]}, "at least one numeric and one categorical"),
        ({"fields": TABLE["fields"][::2], "means": [], "stds": []}, "at least one numeric and one categorical"),
        ({"fields": [*TABLE["fields"][:3], {"name": "age"}]}, "are named alike"),
        ({"defaults": {"token_kernel": "absorbing"}}, "absorbing needs a mask value"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"widths": (8, 6, 1)}, r"weight \(6, 8\) and bias \(6,\), must have \(6, 7\)"),
        ({"widths": (7, 6, 2)}, r"layers.1 has weight \(2, 6\)"),
    ],
)
def test_a_guard_that_cannot_be_served_is_refused_at_load(
    load: Callable[..., TabularGuard], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelConfigError, match=message):
        load(**settings)


def test_weights_that_are_missing_misnamed_or_not_finite_are_refused(guard: TabularGuard, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    spoilt = [
        (stored | {"extra": torch.zeros(1)}, "holds 5 tensors, must hold layers.0.weight"),
        (stored | {"layers.0.bias": torch.full((6,), torch.nan)}, "layers.0 has a number that is not finite"),
    ]
    for weights, message in spoilt:
        save_file(weights, path)
        with pytest.raises(ModelConfigError, match=message):
            registry.load(tmp_path, {})
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelConfigError, match="must be a safetensors file"):
        registry.load(tmp_path, {})


def test_whatever_changes_a_vote_changes_the_fingerprint(load: Callable[..., TabularGuard]) -> None:
    swapped = [{"name": "colour", "values": ["green", "red", "blue"]}, *TABLE["fields"][1:]]
    same = [load(), load(name="other"), load(defaults={"beta": 0.2})]
    others = [load(means=[41.0, 70.0]), load(fields=swapped), load(dtype="float64"), load((7, 5, 1))]
    assert len({guard.fingerprint for guard in same}) == 1
    assert len({guard.fingerprint for guard in (*same[:1], *others)}) == 5


def test_the_kind_in_the_settings_says_which_guard_a_folder_is(guard: TabularGuard, tmp_path: Path) -> None:
    assert registry.load(tmp_path, {"name": "mine"}).info.name == "mine"
    stored = json.loads((tmp_path / "holdfast.json").read_text())
    (tmp_path / "holdfast.json").write_text(json.dumps(stored | {"kind": "other"}))
    with pytest.raises(ModelConfigError, match="kind: Input should be 'hybrid'"):
        registry.load(tmp_path, {})
