"""Settings: documented where they are defined and in the docs, and read in the stated order."""

from pathlib import Path

import pytest

from holdfast.settings import ProcessSettings
from holdfast_service.settings import ServiceSettings
from holdfast_worker.settings import WorkerSettings

DOCS = (Path(__file__).parents[1] / "docs/configuration.md").read_text("utf-8")


@pytest.mark.parametrize("settings", [ProcessSettings, ServiceSettings, WorkerSettings])
def test_every_setting_is_documented_with_its_meaning_and_default(settings: type[ProcessSettings]) -> None:
    for name, field in settings.model_fields.items():
        default = "none" if field.default is None else f"`{field.default}`"
        assert f"| `{name}` | {default} | {field.description} |" in DOCS


def test_the_environment_goes_over_the_file_and_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h.toml").write_text('port = 1\nhost = "h"\nmodels = ["m"]\n[served.m]\nfolder = "f"\n')
    monkeypatch.setenv("HOLDFAST_CONFIG", str(tmp_path / "h.toml"))
    monkeypatch.setenv("HOLDFAST_PORT", "2")
    settings = ServiceSettings()
    assert (settings.port, settings.host, settings.max_active_jobs) == (2, "h", 1000)
    assert WorkerSettings().served == {"m": {"folder": "f"}}


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_ROOT_SEED", "hidden")
    monkeypatch.setenv("HOLDFAST_REDIS_URL", "redis://:hidden@127.0.0.1/0")
    assert "hidden" not in repr(ServiceSettings())
