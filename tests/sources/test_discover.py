"""From configured roots and globs to sources."""

import json
import threading
import time
from pathlib import Path

import pytest

from crewd.sources.discover import Expander, default_roots, discover, folders, without_nested
from crewd.sources.pi_crew import PiCrewOptions
from tests.sources.crew_folder import RUN, CrewFolder, reading


def expand(patterns: list[str]) -> list[str]:
    expander = Expander()
    expander.ask(patterns)
    return expander.expand(patterns)


def keys(*patterns: str) -> list[str]:
    return [source.key for source in discover(patterns, ())]


def test_a_glob_finds_every_crew_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        CrewFolder(tmp_path / name)
    (tmp_path / "c").mkdir()
    assert keys(f"{tmp_path}/*/.crew") == [f"pi_crew:{tmp_path}/{name}/.crew" for name in ("a", "b")]


def test_a_new_project_appears_and_the_others_stay_the_same_objects(tmp_path: Path) -> None:
    CrewFolder(tmp_path / "a")
    first = discover([f"{tmp_path}/*/.crew"], ())
    CrewFolder(tmp_path / "b")
    second = discover([f"{tmp_path}/*/.crew"], (), known=first)
    assert second[0] is first[0]
    assert len(second) == 2


def test_a_root_without_a_wildcard_is_a_source_before_it_exists(tmp_path: Path) -> None:
    assert keys(str(tmp_path / "later")) == [f"pi_crew:{tmp_path}/later"]


def test_a_glob_that_finds_a_file_leaves_it_out(tmp_path: Path) -> None:
    (tmp_path / "x.crew").write_text("")
    assert keys(f"{tmp_path}/*.crew") == []


def test_the_home_folder_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand(["~/projects"]) == [str(tmp_path / "projects")]


def test_two_spellings_of_one_folder_are_one_root(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert expand([str(tmp_path / "real"), str(tmp_path / "link"), f"{tmp_path}/real/../real/"]) == [
        str(tmp_path / "real")
    ]


def test_a_link_that_leads_to_itself_keeps_no_other_root_from_being_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert expand([f"{tmp_path}/*", f"{tmp_path}/loop"]) == [f"{tmp_path}/a", f"{tmp_path}/loop"]


def test_a_crew_root_within_a_project_that_is_a_root_is_looked_at_once() -> None:
    assert without_nested(["/p", "/p/.crew", "/p/.pi/teams", "/q/.crew"]) == ["/p", "/q/.crew"]


def test_beat_roots_become_beat_sources(tmp_path: Path) -> None:
    (source,) = discover((), [str(tmp_path)])
    assert source.runtime == "beat"


def test_the_default_is_the_users_own_folders() -> None:
    assert default_roots("/home/ann", "/home/ann/.local/state/crewd") == (
        ["/home/ann/.pi/agent/extensions/pi-crew"],
        ["/home/ann/.local/state/crewd/beats"],
    )


def test_a_run_is_looked_at_by_one_source_although_the_index_names_it_too(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path / "shop")
    crew.run()
    index = tmp_path / ".pi/agent/extensions/pi-crew/state/runs/active-run-index.json"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps([{"runId": RUN, "stateRoot": str(crew.folder())}]))
    user = str(index.parent.parent.parent)
    options = PiCrewOptions(is_own_folder=lambda folder: True)
    alone = discover([user], (), pi_crew_options=options)
    assert [run.run_id for source in alone for run in source.look(reading()).changed] == [RUN]
    both = discover([user, str(crew.project)], (), known=alone, pi_crew_options=options)
    looks = [source.look(reading()) for source in both]
    assert [[run.run_id for run in look.changed] for look in looks] == [[], [RUN]]
    assert looks[0].vanished == (RUN,)


def test_what_does_not_answer_stands_for_what_it_stood_for_and_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    glob, new = f"{tmp_path}/[ab]", f"{tmp_path}/new"
    expander = Expander()
    expander.ask([str(link), glob])
    let, asked = threading.Event(), []

    def hung(pattern: str) -> list[str]:
        asked.append(pattern)
        assert let.wait(20)
        return folders(pattern)

    monkeypatch.setattr("crewd.sources.discover.folders", hung)
    expander.patience = 0.1
    everything = [str(link), glob, new, f"{new}/*"]
    expander.ask(everything)
    assert expander.expand(everything) == [f"{tmp_path}/a", f"{tmp_path}/b", new]
    expander.patience = 20.0
    began = time.monotonic()
    expander.ask(everything)
    assert time.monotonic() - began < 5 and sorted(asked) == sorted(everything)
    (tmp_path / "new" / "c").mkdir(parents=True)
    let.set()
    while f"{new}/c" not in expander.expand(everything):
        expander.ask(everything)
        assert time.monotonic() - began < 20
