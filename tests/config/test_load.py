from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crewd.config.load import DEFAULT, Loaded, Origin, changes, flat, load, masked
from crewd.config.settings import NEEDS_RESTART, Budgets, Settings
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
            " http, log, tasks, executors, budgets, circuits, secrets, dead_letters,"
            " incidents, notifications, dead_man, recovery, redact)",
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
        ("[executors.x]\ncomand = []\n", "did you mean executors.x.command?"),
        ("[executors.x.retry]\nbsae = 1\n", "did you mean executors.x.retry.base?"),
        ("[executors.x.retry.classes.timeout]\nbsae = 1\n", "did you mean executors.x.retry.classes.timeout.base?"),
        ("[taks]\nenabled = true\n", "did you mean tasks?"),
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
        (b"[sources]\nroots = " + b"[" * 3000, "crewd.toml: has tables or lists within each other without end"),
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


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[sources]\nroots = ["/x", "~nemo-nobody/x"]', "sources.roots"),
        ('[sources]\nbeat_roots = ["/x\\u0000y"]', "sources.beat_roots"),
        *((f'[{group}]\nfolder = "~nemo-nobody/x"', f"{group}.folder") for group in ("ledger", "sinks", "tasks")),
        ('[secrets]\nfolder = "~nemo-nobody/x"', "secrets.folder"),
        ('[tasks]\ninbox = "~nemo-nobody/x"', "tasks.inbox"),
        ('[dead_man]\nfile = "~nemo-nobody/x"', "dead_man.file"),
        ('[recovery.overrides.a]\nroot = "~nemo-nobody/x"', "recovery.overrides.a.root"),
    ],
)
def test_a_path_that_no_file_can_have_is_told_when_the_settings_are_read(tmp_path: Path, text: str, key: str) -> None:
    (found,) = complaints(tmp_path, text)
    assert found.startswith(f"crewd.toml: {key}: '") and found.endswith("(write the whole path)")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_word(host: str) -> None:
    assert load(None, {}, {"http.host": host}).settings.http.host == host


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[patrol]\ninterval = nan\n", "patrol.interval: nan is not a duration"),
        ("[patrol]\ninterval = inf\n", "patrol.interval: inf is not a duration"),
        (f"[patrol]\ninterval = {10**400}\n", "patrol.interval: a number beyond 2**63 is not a duration"),
        (f"[http]\nport = {10**30}\n", "http.port: the number is"),
        ("[http]\nport = 0x" + "f" * 5000 + "\n", "http.port: the number is"),
        ("[http]\nport = [0x" + "f" * 5000 + "]\n", "http.port: the value is"),
        (f'[sinks]\nretention_bytes = "1{"0" * 400}"\n', "is not a size in bytes"),
        ("[tasks]\nstart_rate = nan\n", "tasks.start_rate: the number is out of range"),
    ],
)
def test_a_number_that_no_machine_can_hold_is_told_like_any_other(tmp_path: Path, text: str, told: str) -> None:
    (found,) = complaints(tmp_path, text)
    assert told in found


EXECUTOR = """
[executors.claude]
command = ["claude", "-p", "--model", "{model}"]
env_pass = ["SSL_CERT_FILE"]
provider = "anthropic"
env = { NO_COLOR = "1" }
secrets = { ANTHROPIC_API_KEY = "anthropic" }
[executors.claude.stop]
steps = [{ signal = "INT", wait = "5s" }, { signal = "TERM", wait = 2 }]
[executors.claude.retry]
max_attempts = 5
classes = { rate_limited = { base = "1m" } }
[executors.claude.success]
files = ["out.md", { path = "log", bytes_min = "1KiB" }]
"""


def test_an_executor_is_read_with_all_its_tables(tmp_path: Path) -> None:
    claude = load_text(tmp_path, EXECUTOR).settings.executors["claude"]
    assert claude.command == ("claude", "-p", "--model", "{model}")
    assert claude.env_pass == ("SSL_CERT_FILE",)
    assert claude.stop is not None
    assert [(step.signal, step.wait) for step in claude.stop.steps or ()] == [("INT", 5.0), ("TERM", 2.0)]
    assert claude.retry is not None
    assert claude.retry.classes is not None
    assert claude.retry.classes["rate_limited"].base == 60.0
    assert claude.success is not None
    assert [(each.path, each.bytes_min) for each in claude.success.files or ()] == [("out.md", None), ("log", 1024)]
    with pytest.raises(TypeError):
        claude.env["X"] = "1"  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('cwd = "work"', "executors.x: cwd 'work' is relative"),
        ('retry = { base = "10m" }', "executors.x: retry: base 600s is longer than cap 300s (say a longer cap, too)"),
        ('heartbeat = { warn_after = "5m", dead_after = "1m" }', "warn_after < stale_after"),
        ('env = { A = "1" }\nsecrets = { A = "a" }', "executors.x: A is in env and in secrets"),
        ('env = { CREWD_FENCE = "1" }', "CREWD_FENCE is set by crewd itself"),
        ('env_pass = ["A-B"]', "executors.x.env_pass[0]: 'A-B' is not written as it must be"),
        ('secrets = { A = "../a" }', "executors.x.secrets.A: '../a' is not written as it must be"),
        ('success = { files = ["../x"] }', "does not stay inside the task's cwd"),
        ("max_parallel = 0", "executors.x.max_parallel: 0 is out of range (1 to 10000)"),
        ("retry = { classes = { nope = {} } }", "executors.x.retry.classes.nope: 'nope' is unknown"),
        ("stop = { steps = 3 }", "executors.x.stop.steps: 3 is no list of steps"),
        (
            'profile = "claude"\nmode = "protocol"',
            "executors.x: profile claude in protocol mode: an agent prints its own lines, and none of crewd-worker/1"
            " (leave mode out, or profile)",
        ),
        ('profile = "clade"', "executors.x.profile: 'clade' is unknown (one of claude, codex, gemini, pi, plain)"),
        ("watch = { same_tool_warn = 30 }", "watch: same_tool_warn 30 lies beyond same_tool_max 20"),
    ],
)
def test_an_executor_that_cannot_work_is_told_when_the_settings_are_read(
    tmp_path: Path, text: str, told: str
) -> None:
    (found,) = complaints(tmp_path, f"[executors.x]\n{text}\n")
    assert told in found


def test_an_executor_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {"CREWD_EXECUTORS__FAST__COMMAND": "agent,--fast", "CREWD_EXECUTORS__FAST__RETRY__MAX_ATTEMPTS": "2"}
    fast = load_text(tmp_path, "", environ).settings.executors["fast"]
    assert fast.command == ("agent", "--fast")
    assert fast.retry is not None
    assert fast.retry.max_attempts == 2


def test_what_an_executors_command_and_variables_hold_is_never_quoted(tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    text = f'[executors.x]\ncommand = ["a", ["{secret}"]]\nenv = {{ A = ["{secret}"] }}\n'
    found = complaints(tmp_path, text)
    assert len(found) == 2
    assert secret not in "\n".join(found)


def test_the_token_is_long_or_none_and_never_shown(tmp_path: Path) -> None:
    assert load_text(tmp_path, '[http]\ntoken = ""\n').settings.http.token is None
    (found,) = complaints(tmp_path, '[http]\ntoken = "too-short"\n')
    assert "too-short" not in found
    assert "16 characters or more" in found
    (tmp_path / "http__token").write_text("0123456789abcdef\n")
    loaded = load(None, {"HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.settings.http.token is not None
    assert loaded.settings.http.token.get_secret_value() == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(loaded)
    assert masked(flat(loaded.settings)["http.token"]) == "**********"


def test_circuits_that_would_open_longer_than_the_longest_are_refused(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, '[circuits]\nopen_for = "20m"\n')
    assert "open_for 20m is longer than open_for_max 15m" in found


def test_what_a_worker_is_told_of_itself_is_no_setting(tmp_path: Path) -> None:
    names = ("ATTEMPT", "ATTEMPT_DIR", "ATTEMPT_NUMBER", "BEAT", "FENCE", "PAYLOAD_FILE", "RUN_ID", "TASK_ID")
    assert load_text(tmp_path, "", {f"CREWD_{name}": "x" for name in names}).settings == Settings()


def test_budgets_are_numbers_or_none_and_none_is_no_limit(tmp_path: Path) -> None:
    assert load_text(tmp_path, "").settings.budgets == Budgets(
        day_tokens=None,
        day_cost_usd=None,
        crew_day_tokens=None,
        crew_day_cost_usd=None,
        warn_ratio=0.8,
        on_exceeded="park",
    )
    text = '[budgets]\nday_tokens = 5_000_000\nday_cost_usd = ""\ncrew_day_cost_usd = 2.5\non_exceeded = "warn"\n'
    found = load_text(tmp_path, text, {"CREWD_BUDGETS__CREW_DAY_TOKENS": "10", "CREWD_BUDGETS__DAY_TOKENS": ""})
    budgets = found.settings.budgets
    assert (budgets.day_tokens, budgets.day_cost_usd) == (None, None)
    assert (budgets.crew_day_tokens, budgets.crew_day_cost_usd, budgets.on_exceeded) == (10, 2.5, "warn")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("day_tokens = 0", "budgets.day_tokens: 0 is out of range (1 to"),
        ("day_tokens = 1.5", "budgets.day_tokens: 1.5 is no whole number"),
        ("crew_day_cost_usd = -1", "budgets.crew_day_cost_usd: -1 is out of range (0.001 to"),
        ("warn_ratio = 0", "budgets.warn_ratio: 0 is out of range (0.01 to 1)"),
        ('on_exceeded = "kill"', "budgets.on_exceeded: 'kill' is unknown (one of stop, park, warn)"),
    ],
)
def test_a_budget_that_cannot_be_is_told(tmp_path: Path, text: str, told: str) -> None:
    (found,) = complaints(tmp_path, f"[budgets]\n{text}\n")
    assert told in found


def test_a_budget_changes_without_a_restart(tmp_path: Path) -> None:
    found = changes(load_text(tmp_path, "").settings, load_text(tmp_path, "[budgets]\nday_tokens = 5\n").settings)
    assert (found.changed, found.need_restart) == (("budgets.day_tokens",), ())
