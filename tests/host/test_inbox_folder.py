"""The folder into which people put run files."""

from pathlib import Path

from crewd.host.inbox_folder import NAMES_MAX, look, make, move


def test_what_is_no_run_file_stands_in_nobodys_way(tmp_path: Path) -> None:
    make(str(tmp_path))
    for number in range(NAMES_MAX + 1):
        (tmp_path / f"a-{number}.part").touch()
    (tmp_path / ".hidden.toml").touch()
    (tmp_path / "link.toml").symlink_to("/etc/passwd")
    (tmp_path / "run.toml").touch()
    assert [each.name for each in look(str(tmp_path))] == ["run.toml"]


def test_a_file_that_is_moved_replaces_nothing(tmp_path: Path) -> None:
    make(str(tmp_path))
    for text in ("one", "two", "three"):
        (tmp_path / "run.toml").write_text(text)
        move(str(tmp_path), "run.toml", "accepted", "")
    kept = sorted(path.name for path in (tmp_path / "accepted").iterdir())
    assert kept == ["run.toml", "run.toml.2", "run.toml.3"]
    assert (tmp_path / "accepted" / "run.toml").read_text() == "one"
