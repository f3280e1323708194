"""Folders of attempts, in which the workers of former attempts could do as they liked."""

import errno
from pathlib import Path

import pytest

from crewd.host.attempt_folder import folder_of, make_folder, read_secrets, run_folders


def test_a_folder_that_was_never_recorded_is_made_anew(tmp_path: Path) -> None:
    folder = folder_of(str(tmp_path), "run", "task", 1)
    make_folder(folder)
    (Path(folder) / "stdout").write_text("of a start that came to nothing")
    make_folder(folder)
    assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("linked", ["run/task", "run"])
def test_a_link_in_the_place_of_a_folder_leads_nobody_out(tmp_path: Path, linked: str) -> None:
    precious = tmp_path / "precious"
    for inside in ("2", "task/2"):
        (precious / inside).mkdir(parents=True)
        (precious / inside / "dear").touch()
    link = tmp_path / "runs" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    with pytest.raises(OSError, match="link") as refused:
        make_folder(folder_of(f"{tmp_path}/runs", "run", "task", 2))
    assert (refused.value.errno, refused.value.filename) == (errno.ELOOP, str(link))
    assert sorted(precious.rglob("dear")) == [precious / "2/dear", precious / "task/2/dear"]


def test_runs_that_are_taken_away_by_others_are_not_listed(tmp_path: Path) -> None:
    assert run_folders(str(tmp_path / "gone")) == []
    (tmp_path / "run" / "task").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert [each.name for each in run_folders(str(tmp_path))] == ["run"]


def test_every_credential_that_could_be_given_is_known(tmp_path: Path) -> None:
    (tmp_path / "api").write_text("one\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * 100)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("api")
    assert read_secrets(str(tmp_path), 64) == ["one", "one"]
    assert read_secrets(str(tmp_path / "gone"), 64) == []
    assert read_secrets("", 64) == []
