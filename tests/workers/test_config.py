import json
from importlib import resources
from pathlib import Path

import pytest

from holdfast_worker.models.config import GuardConfig, load_config
from holdfast_worker.models.errors import GuardConfigError
from holdfast_worker.models.policies import MULTIMODAL_SAFETY_V1, policy_text

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "holdfast.json").write_text(json.dumps({"name": "a", "defaults": {"beta": 0.9, "slots": 4}}))
    return tmp_path


def test_settings_are_laid_over_the_file_field_by_field(folder):
    config = load_config(folder, {"defaults": {"slots": 2}, "tiles": "base"})
    assert (config.name, config.tiles) == ("a", "base")
    assert (config.defaults.beta, config.defaults.slots) == (0.9, 2)


def test_a_folder_without_the_file_is_served_by_settings_alone(tmp_path):
    config = load_config(tmp_path, {"name": "llava-guard", "unsafe_tokens": ["Unsafe"], "safe_tokens": ["Safe"]})
    assert config.name == "llava-guard"
    with pytest.raises(GuardConfigError, match="name: Field required"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "nmae: Extra inputs are not permitted"),
        ({"user_template": "{policy}"}, "must hold it once"),
        ({"user_template": "{text}{text}"}, "must hold it once"),
        ({"safe_tokens": ["Unsafe"]}, "a variant must mean one verdict"),
        ({"safe_tokens": []}, "safe_tokens"),
        ({"max_slots": 3}, "defaults.slots=4 exceeds max_slots=3"),
        ({"defaults": {"token_kernel": "absorbing"}}, "needs a mask_token"),
        ({"device": "cuda:x"}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"noise_height": 0}, "noise_height"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(folder, change, message):
    with pytest.raises(GuardConfigError, match=message):
        load_config(folder, change)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_file_that_is_no_object_is_refused(folder, content):
    (folder / "holdfast.json").write_text(content)
    with pytest.raises(GuardConfigError, match=r"holdfast\.json .*rewrite it"):
        load_config(folder, {})


def test_a_config_cannot_be_changed(folder):
    with pytest.raises(ValueError, match="frozen"):
        load_config(folder, {}).name = "b"


def test_every_field_says_what_it_means():
    assert all(field.description for field in GuardConfig.model_fields.values())


def test_a_policy_is_a_name_or_the_text_itself():
    assert policy_text("multimodal-safety-v1") == MULTIMODAL_SAFETY_V1
    assert policy_text("be kind") == "be kind"


def test_the_named_policy_is_the_papers_word_for_word():
    paper = SHARED / "papers" / "hybrid-randomized-smoothing.txt"
    if not paper.is_file():
        pytest.skip("the paper's text is not here")
    words = " ".join(paper.read_text("utf-8").replace("*", "").replace("`", "").split())
    for paragraph in MULTIMODAL_SAFETY_V1.split("\n\n"):
        assert paragraph in words


def test_a_false_flag_bound_does_not_outlive_what_it_was_measured_on() -> None:
    with resources.as_file(resources.files("holdfast_worker.models") / "reference_guard") as folder:
        kept = load_config(folder, {"device": "cpu", "name": "mine"})
        changed = load_config(folder, {"defaults": {"sigma": 0.25}})
        measured_again = load_config(folder, {"policy": "other", "false_flag": kept.false_flag})
    assert kept.false_flag is not None
    assert kept.defaults.l0 is not None
    assert kept.defaults.l0.false_flag is not None
    assert changed.false_flag is None
    assert changed.defaults.l0 is not None
    assert changed.defaults.l0.false_flag is None
    assert measured_again.false_flag == kept.false_flag
