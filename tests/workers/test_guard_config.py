import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.answers import Reading
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.policies import LLAVAGUARD_V1_2, MULTIMODAL_SAFETY_V1, policy_text
from holdfast_worker.models.registry import measured


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "holdfast.json").write_text(json.dumps({"name": "a", "defaults": {"beta": 0.9, "slots": 4}}))
    return tmp_path


def test_settings_are_laid_over_the_file_field_by_field(folder: Path) -> None:
    config = load_config(GuardConfig, folder, {"defaults": {"slots": 2}, "tiles": "base"})
    assert (config.name, config.tiles) == ("a", "base")
    assert (config.defaults.beta, config.defaults.slots) == (0.9, 2)


def test_a_folder_without_the_file_is_served_by_settings_alone(tmp_path: Path) -> None:
    config = load_config(
        GuardConfig, tmp_path, {"name": "llava-guard", "unsafe_tokens": ["Unsafe"], "safe_tokens": ["Safe"]}
    )
    assert config.name == "llava-guard"
    with pytest.raises(ModelConfigError, match="name: Field required"):
        load_config(GuardConfig, tmp_path, {})


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
        ({"answer": "json_rating"}, "needs an answer_prefix that ends where the rating begins"),
        ({"layout": "image_last"}, "layout"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"engine": "vllm", "decision": "generate"}, "decision=generate needs engine=transformers"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(folder: Path, change: Any, message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        load_config(GuardConfig, folder, change)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_file_that_is_no_object_is_refused(folder: Path, content: str) -> None:
    (folder / "holdfast.json").write_text(content)
    with pytest.raises(ModelConfigError, match=r"holdfast\.json .*rewrite it"):
        load_config(GuardConfig, folder, {})


def test_a_config_cannot_be_changed(folder: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load_config(GuardConfig, folder, {}), "name", "b")  # noqa: B010 - as code that is not typed would


def test_every_field_says_what_it_means() -> None:
    assert all(field.description for field in GuardConfig.model_fields.values())


def test_a_policy_is_a_name_or_the_text_itself() -> None:
    assert policy_text("multimodal-safety-v1") == MULTIMODAL_SAFETY_V1
    assert policy_text("llavaguard-v1.2") == LLAVAGUARD_V1_2
    assert policy_text("be kind") == "be kind"


def test_the_named_policy_is_the_papers_word_for_word() -> None:
    # Appendix A.6, "Exact Prompt", without marks of typesetting: the words as printed, one space between them.
    digest = hashlib.sha256(" ".join(MULTIMODAL_SAFETY_V1.split()).encode()).hexdigest()
    assert digest == "7042705d4503e93f4dd6f98f0667c2b69b07a23afa5e14f863a9eea7f672a6a7"


def test_llavaguards_policy_is_the_text_that_its_authors_published() -> None:
    digest = hashlib.sha256(LLAVAGUARD_V1_2.encode()).hexdigest()
    assert digest == "16c712fecb9c1ae99aa4fdd9dc4ae323be0091192756670b181a3bbcae10900d"


def test_llavaguards_policy_asks_for_the_rating_in_the_form_that_is_read() -> None:
    template = LLAVAGUARD_V1_2[LLAVAGUARD_V1_2.rindex("\n{") + 1 :]
    answer = template.replace('str<"Unsafe"|"Safe">', '"Unsafe"')
    read = Reading.of(GuardConfig(name="g", decision="generate", answer="json_rating"))
    assert read.verdict(answer, ended=False) is True


def test_a_false_flag_bound_does_not_outlive_what_it_was_measured_on() -> None:
    with resources.as_file(resources.files("holdfast_worker.models") / "reference_guard") as folder:
        kept = load_config(GuardConfig, folder, {"device": "cpu", "name": "mine"})
        changed = load_config(GuardConfig, folder, {"defaults": {"sigma": 0.25}})
        measured_again = load_config(GuardConfig, folder, {"policy": "other", "false_flag": kept.false_flag})
    assert kept.false_flag is not None
    assert kept.defaults.l0 is not None
    assert kept.defaults.l0.false_flag is not None
    assert changed.false_flag is None
    assert changed.defaults.l0 is not None
    assert changed.defaults.l0.false_flag is None
    assert kept.defaults.append is not None
    assert changed.defaults.append is None
    assert measured_again.false_flag == kept.false_flag


@pytest.mark.parametrize("where", ["false_flag", "l0", "append"])
def test_a_false_flag_bound_that_its_counts_do_not_give_is_refused(where: str) -> None:
    invented = {"rate_at_most": 1e-6, "alpha": 0.01, "scenes": 100, "flagged": 0, "measured_on": "nothing"}
    given: dict[str, Any] = {
        "false_flag": {"false_flag": invented},
        "l0": {"defaults": {"l0": {"beta": 0.5, "tau": 0.2, "false_flag": invented}}},
        "append": {"defaults": {"append": invented}},
    }[where]
    with pytest.raises(ModelConfigError, match=r"guard: rate_at_most=1e-06 must be 0\.045.*rounded up to four digits"):
        measured(GuardConfig(name="guard", **given))
