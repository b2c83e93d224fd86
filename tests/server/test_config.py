from __future__ import annotations

from pathlib import Path

import pytest

from server.config import Settings, load_settings
from server.errors import ConfigInvalid


def load(environment: dict[str, str] | None = None, **options: object) -> Settings:
    return load_settings(environment=environment or {}, **options)  # type: ignore[arg-type]


def test_options_go_before_the_environment_before_the_file_before_defaults(tmp_path: Path) -> None:
    (tmp_path / "mynah.toml").write_text("port = 1\nnum_slots = 2\nmax_waiting = 3\n")
    settings = load(
        {"MYNAH_DATA_DIR": str(tmp_path), "MYNAH_NUM_SLOTS": "20", "MYNAH_PORT": "10"}, port=100
    )
    assert (settings.port, settings.num_slots, settings.max_waiting) == (100, 20, 3)
    assert settings.host == "127.0.0.1"


def test_nothing_given_binds_loopback_and_logs_no_prompts() -> None:
    settings = load()
    assert (settings.host, settings.prompts_in_log, settings.allowed_origins) == (
        "127.0.0.1",
        False,
        (),
    )


def test_a_file_is_named_by_option_or_variable(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text(f'port = 5\ndata_dir = "{tmp_path}"\n')
    assert load(config=path).port == 5
    assert load({"MYNAH_CONFIG": str(path)}).data_dir == tmp_path


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MYNAH_PROT": "1"}, "no setting MYNAH_PROT; did you mean MYNAH_PORT"),
        ({"MYNAH_CONFG": "x"}, "did you mean MYNAH_CONFIG"),
        ({"MYNAH_ZZZZZZZZ": "x"}, "no setting MYNAH_ZZZZZZZZ."),
        ({"MYNAH_PORT": "many"}, "MYNAH_PORT must be a valid integer, not 'many'"),
        ({"MYNAH_PORT": "70000"}, "MYNAH_PORT must be less than or equal to 65535"),
        ({"MYNAH_GROUNDING_MODE": "x"}, "'auto', 'quote', 'answer' or 'off'"),
        ({"MYNAH_CONFIG": "/nonexistent/mynah.toml"}, "no configuration file"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigInvalid, match=message):
        load(environment)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prot = 1", "no setting prot; did you mean port"),
        ('port = "x"', "port must be a valid integer"),
        ("port = [", "cannot read"),
        ('data_dir = "/tmp"', "data_dir cannot be set"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mynah.toml").write_text(content)
    with pytest.raises(ConfigInvalid, match=message) as caught:
        load(data_dir=tmp_path)
    assert "\n" not in caught.value.message
    assert str(tmp_path) in caught.value.message


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "mynah.toml").touch()
    with pytest.raises(ConfigInvalid, match=r"did you mean mynah\.toml"):
        load(config=tmp_path / "mynha.toml")


def test_lists_are_separated_by_commas_in_the_environment(tmp_path: Path) -> None:
    settings = load({"MYNAH_ALLOWED_HOSTS": "a.example, b.example,"})
    assert settings.allowed_hosts == ("a.example", "b.example")
    (tmp_path / "mynah.toml").write_text('allowed_hosts = ["c.example"]')
    assert load(data_dir=tmp_path).allowed_hosts == ("c.example",)


def test_an_empty_variable_is_not_set() -> None:
    assert load({"MYNAH_MODEL": ""}).model is None
