from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crewd.config.load import DEFAULT, Loaded, Origin, changes, flat, load, masked
from crewd.config.settings import NEEDS_RESTART, Settings
from crewd.errors import SettingsError


def load_text(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Loaded:
    path = folder / "crewd.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ or {}, overrides)


def complaints(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_text(folder, text, environ, overrides)
    return [str(complaint).replace(f"{folder}/", "") for complaint in caught.value.complaints]


def test_without_anything_the_defaults_count(tmp_path: Path) -> None:
    loaded = load(None, {"HOME": str(tmp_path)})
    assert loaded.settings == Settings()
    assert loaded.path is None
    assert loaded.origin("http.port") == DEFAULT


def test_each_layer_is_stronger_than_the_one_before(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, value in (("patrol__unreadable_after", "4"), ("metrics__max_crews", "4"), ("http__port", "4")):
        (credentials / name).write_text(value)
    text = "[patrol]\nunreadable_after = 3\n[metrics]\nmax_crews = 3\n[http]\nport = 3\n[sinks]\nretention_days = 3\n"
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "CREWD_METRICS__MAX_CREWS": "5", "CREWD_HTTP__PORT": "5"}
    loaded = load_text(tmp_path, text, environ, {"http.port": 6})
    settings = loaded.settings
    assert settings.sinks.retention_days == 3
    assert settings.patrol.unreadable_after == 4
    assert settings.metrics.max_crews == 5
    assert settings.http.port == 6
    assert loaded.origin("sinks.retention_days") == Origin("file", str(tmp_path / "crewd.toml"))
    assert loaded.origin("patrol.unreadable_after") == Origin(
        "credentials", str(credentials / "patrol__unreadable_after")
    )
    assert loaded.origin("metrics.max_crews") == Origin("environment", "CREWD_METRICS__MAX_CREWS")
    assert loaded.origin("http.port") == Origin("command line")
    assert loaded.origin("http.host") == DEFAULT


def test_every_complaint_comes_at_once_with_file_key_and_remedy(tmp_path: Path) -> None:
    text = '[http]\nport = 99999\nprt = 1\n[log]\nlevel = "loud"\n[patrol]\ninterval = "x"\n[sinks]\ngzip = "maybe"\n'
    found = complaints(tmp_path, text, {"CREWD_SINKS__RETENTION_DAYS": "many", "CREWD_NOPE": "1"})
    assert sorted(found) == sorted(
        [
            "crewd.toml: http.port: 99999 is out of range (0 to 65535)",
            "crewd.toml: http.prt: is no setting (did you mean http.port?)",
            "crewd.toml: log.level: 'loud' is unknown (one of debug, info, warning, error)",
            "crewd.toml: patrol.interval: 'x' is not a duration"
            ' (write "30s", "1m30s", "500ms", or a number of seconds)',
            "crewd.toml: sinks.gzip: 'maybe' is no yes or no (write true or false)",
            "environment: CREWD_SINKS__RETENTION_DAYS: 'many' is no whole number (write a whole number)",
            "environment: CREWD_NOPE: is no setting (known here: sources, patrol, heartbeat, ledger, sinks, metrics,"
            " http, log, dead_letters, redact)",
        ]
    )


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[histroy]\nx = 1\n", ""),
        ("[htpp]\nport = 1\n", "did you mean http?"),
        ("[http]\nhots = 1\n", "did you mean http.host?"),
        ("[patrol]\nretention_days = 1\n", "did you mean sinks.retention_days?"),
        ("[heartbeat]\ndead_afetr = 1\n", "did you mean heartbeat.dead_after?"),
        ('[heartbeat.overrides.x]\ntool = "a"\nhung_aftr = 1\n', "did you mean heartbeat.overrides.x.hung_after?"),
        ("port = 1\n", "did you mean http.port?"),
    ],
)
def test_an_unknown_key_in_the_file_is_told_with_the_nearest_name(tmp_path: Path, text: str, meant: str) -> None:
    (found,) = complaints(tmp_path, text)
    assert "is no setting" in found
    assert meant in found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CREWD_HTP__PORT", "CREWD_HTTP__PORT"),
        ("CREWD_HTTP__PRT", "CREWD_HTTP__PORT"),
        ("CREWD_HTTP_PORT", "CREWD_HTTP__PORT"),
        ("CREWD_PORT", "CREWD_HTTP__PORT"),
    ],
)
def test_an_unknown_variable_is_told_with_the_nearest_name(tmp_path: Path, name: str, meant: str) -> None:
    (found,) = complaints(tmp_path, "", {name: "1"})
    assert found == f"environment: {name}: is no setting (did you mean {meant}?)"


def test_variables_that_only_say_where_to_look_are_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "crewd.toml"
    path.write_text("[http]\nport = 7\n")
    loaded = load(None, {"CREWD_CONFIG": str(path), "CREWD_STATE_DIR": "x", "CREWD_RUN": "r", "CREWD_TASK": "t"})
    assert loaded.settings.http.port == 7
    assert loaded.path == path


@pytest.mark.parametrize("environ", [{}, {"CREWD_CONFIG": "missing.toml"}])
def test_a_file_that_was_named_and_is_missing_is_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    named = None if environ else tmp_path / "missing.toml"
    with pytest.raises(SettingsError, match="there is no such file"):
        load(named, environ)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[http]\nport = = 3\n", "crewd.toml:2:8: "),
        (b"[http\n", "crewd.toml:1:6: "),
        (b'[http]\nhost = "x', "crewd.toml:2:"),
        (b"[http]\nport=1\nport=2\n", "crewd.toml:3:"),
        (b"\xff\xfe", "crewd.toml: is not UTF-8"),
    ],
)
def test_bad_toml_is_told_with_file_line_and_column(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "crewd.toml"
    path.write_bytes(data)
    with pytest.raises(SettingsError) as caught:
        load(path, {"CREWD_NOPE": "1"})
    assert len(caught.value.complaints) == 2, "the environment is judged all the same"
    assert words in str(caught.value.complaints[1]) or words in str(caught.value.complaints[0])


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_thresholds_out_of_order_are_refused_also_where_an_override_makes_them_so(tmp_path: Path) -> None:
    assert "each" not in str(load_text(tmp_path, '[heartbeat]\nwarn_after = "40s"\n'))
    (found,) = complaints(tmp_path, '[heartbeat]\nwarn_after = "10m"\n')
    assert "warn_after 10m, stale_after 1m" in found
    assert "warn_after < stale_after < dead_after <= hung_after" in found
    (found,) = complaints(tmp_path, '[heartbeat.overrides.slow]\ntool = "bash"\nhung_after = "4m"\n')
    assert "with overrides.slow" in found


def test_an_override_must_say_whom_it_fits(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, '[heartbeat.overrides.all]\nhung_after = "1h"\n')
    assert found.startswith("crewd.toml: heartbeat.overrides.all: fits every worker (name runtime")


def test_the_name_of_an_override_has_no_dot(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, '[heartbeat.overrides."a.b"]\ntool = "bash"\n')
    assert found == "crewd.toml: heartbeat.overrides.a.b: is no name (use letters, digits, - and _)"


def test_lists_are_given_to_the_environment_with_commas_or_as_json(tmp_path: Path) -> None:
    assert load_text(tmp_path, "", {"CREWD_SOURCES__ROOTS": "~/a, /b"}).settings.sources.roots == ("~/a", "/b")
    assert load_text(tmp_path, "", {"CREWD_SOURCES__ROOTS": '["a,b"]'}).settings.sources.roots == ("a,b",)
    assert "begins like a JSON list" in complaints(tmp_path, "", {"CREWD_SOURCES__ROOTS": "[a"})[0]


def test_an_override_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {"CREWD_HEARTBEAT__OVERRIDES__LONG__TOOL": "bash", "CREWD_HEARTBEAT__OVERRIDES__LONG__HUNG_AFTER": "2h"}
    loaded = load_text(tmp_path, "", environ)
    assert loaded.settings.heartbeat.overrides["long"].hung_after == 7200.0
    assert loaded.origin("heartbeat.overrides.long.tool").kind == "environment"


def test_a_variable_for_a_whole_group_is_one_complaint_not_two(tmp_path: Path) -> None:
    found = complaints(tmp_path, "", {"CREWD_HTTP": "{}", "CREWD_HTTP__PORT": "1"})
    assert found == ["environment: CREWD_HTTP: '{}' is no table (write [http] and its keys below)"]


def test_secrets_are_never_quoted(tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    text = f'[redact]\nsecrets = ["{secret}", 7, "abc", ["{secret}"]]\nsecret = "{secret}"\n'
    found = complaints(tmp_path, text) + complaints(tmp_path, "", {"CREWD_REDACT__SECRETS__X": secret})
    found += complaints(tmp_path, "", {"CREWD_REDACT__SECRETS": f"[{secret}"})
    assert len(found) == 6
    assert secret not in "\n".join(found)
    assert "abc" not in "\n".join(found)
    loaded = load_text(tmp_path, "", {"CREWD_REDACT__SECRETS": secret})
    assert secret not in repr(loaded)
    assert secret not in str([masked(value) for value in flat(loaded.settings).values()])
    assert secret not in loaded.settings.model_dump_json()


def test_secrets_come_from_the_credentials_folder_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "redact__secrets").write_text("first,with comma\nsecond\n")
    (tmp_path / "tls.key").write_bytes(b"\xff\xfe not a setting")
    secrets = load(None, {"HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path)}).settings.redact.secrets
    assert [secret.get_secret_value() for secret in secrets] == ["first,with comma", "second"]


def test_bad_credentials_are_told_with_their_path(tmp_path: Path) -> None:
    (tmp_path / "htp__port").write_text("1")
    (tmp_path / "http__prt").write_text("1")
    (tmp_path / "log__level").write_bytes(b"\xff")
    (tmp_path / "sinks__folder").write_bytes(b"x" * 70_000)
    with pytest.raises(SettingsError) as caught:
        load(None, {"HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path)})
    text = str(caught.value)
    for name, words in (
        ("htp__port", "did you mean"),
        ("http__prt", "did you mean http.port?"),
        ("log__level", "cannot be read as text"),
        ("sinks__folder", "is larger than 64KiB"),
    ):
        assert any(name in line and words in line for line in text.splitlines()), (name, text)


def test_names_that_the_loader_itself_knows_are_no_way_in(tmp_path: Path) -> None:
    found = complaints(tmp_path, f'_secrets_dir = "{tmp_path}"\nself = 1\nmodel_config = 2\n')
    assert len(found) == 3
    assert all("is no setting" in each for each in found)


def test_loaded_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.http = settings.http
    with pytest.raises(ValidationError, match="frozen"):
        settings.http.port = 1
    with pytest.raises(TypeError):
        settings.heartbeat.overrides["x"] = None  # type: ignore[index]


def test_a_change_says_which_keys_and_which_of_them_wait_for_a_restart(tmp_path: Path) -> None:
    old = load_text(tmp_path, "[http]\nport = 1\n").settings
    new = load_text(
        tmp_path, '[http]\nport = 2\n[log]\nlevel = "debug"\n[heartbeat.overrides.x]\ntool = "y"\n'
    ).settings
    found = changes(old, new)
    assert set(found.changed) >= {"http.port", "log.level", "heartbeat.overrides.x.tool"}
    assert found.need_restart == ("http.port",)
    assert changes(old, old).changed == ()


def test_every_key_that_needs_a_restart_is_a_setting() -> None:
    assert set(flat(Settings())) >= NEEDS_RESTART


def test_the_environment_alone_never_changes_settings_that_are_made_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREWD_HTTP__PORT", "1")
    assert Settings().http.port == 9464


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "crewd.example"])
def test_an_address_that_others_reach_needs_a_word_about_the_proxy_in_front(host: str) -> None:
    with pytest.raises(SettingsError, match=r"behind_proxy"):
        load(None, {}, {"http.host": host})
    assert load(None, {}, {"http.host": host, "http.behind_proxy": True}).settings.http.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_word(host: str) -> None:
    assert load(None, {}, {"http.host": host}).settings.http.host == host
