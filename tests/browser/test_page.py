"""The page in a real Chromium, before a real daemon: what one sees, what one can do, and that it survives bad names.

All share one daemon and one browser, for both take seconds to begin; none needs what another did.
CREWD_BROWSER_PICTURES names a folder for pictures of every view, for somebody to look at.
"""

import os
from pathlib import Path

import pytest

from tests.browser.chrome import NARROW, WIDE, Chrome
from tests.browser.looking import wrong_contrasts, wrong_names, wrong_order
from tests.browser.world import INTERRUPTED, MARKUP, TOKEN, World
from tests.end_to_end.managed import ask, shell, states, submit
from tests.end_to_end.running import eventually

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.real_time, pytest.mark.xdist_group("browser")]

VIEWS = {
    "overview": ("#/", "Overview"),
    "incidents": ("#/incidents", "Incidents"),
    "deadletters": ("#/deadletters", "Dead letters"),
    "recoveries": ("#/recoveries", "Recoveries"),
    "history": ("#/history", "History"),
    "tasks": ("#/history?level=tasks", "History"),
    "attempts": ("#/history?level=attempts", "History"),
    "metrics": ("#/metrics", "Metrics"),
    "run": (f"#/run/{INTERRUPTED}", ""),
    "task": (f"#/run/{INTERRUPTED}/02_write", ""),
}
TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"  # as WebDriver writes keys


@pytest.fixture(autouse=True)
def nothing_goes_wrong(chrome: Chrome) -> object:
    """Whatever a test does: no error, nothing refused by the policy of the page, and no script of a stranger."""
    chrome.wrongs()
    chrome.look()
    yield
    assert chrome.wrongs(without_daemon=True) == []


def open_view(chrome: Chrome, world: World, hash: str) -> None:
    chrome.open(f"{world.url}/{hash}")
    chrome.one("main h1")
    chrome.wait(lambda: chrome.js("return document.getElementById('content').ariaBusy !== 'true'"))


def give_token(chrome: Chrome) -> None:
    chrome.one("dialog[open] [name=token]")
    chrome.fill("token", TOKEN)
    chrome.press("Use it", "dialog[open]")


def test_the_page_loads_nothing_from_elsewhere_and_is_live(chrome: Chrome, world: World) -> None:
    open_view(chrome, world, "#/")
    chrome.wait(lambda: chrome.one("#connection").text.endswith("live"), "live")
    chrome.wait_for("nightly")
    loaded = chrome.js("return performance.getEntriesByType('resource').map(each => each.name)")
    assert loaded and all(each.startswith(world.url) for each in loaded)


def test_a_worker_that_is_killed_is_shown_dead_without_a_reload(chrome: Chrome, world: World) -> None:
    eventually(lambda: world.ask("/api/v1/status")["health"]["hold"] == "", world.daemon.process)
    open_view(chrome, world, "#/")
    chrome.wait_for("nightly")
    chrome.js("window.same = true")
    gone = f"pid {world.workers['publish'].process.pid} is gone"
    assert gone not in chrome.text()
    world.kill_worker("publish")
    chrome.wait_for(gone, patience=15)
    assert "dead" in chrome.text()
    assert chrome.js("return window.same") is True


def test_an_incident_is_taken_on_with_the_token_asked_once(chrome: Chrome, world: World) -> None:
    world.kill_worker("review")
    eventually(lambda: any(each["subject"] == "nightly/review" for each in _incidents(world)))
    open_view(chrome, world, "#/incidents")
    chrome.press("Acknowledge nightly/review dead")
    chrome.fill("by", "ann")
    chrome.fill("note", "known since noon")
    chrome.press("Acknowledge", "dialog[open]")
    give_token(chrome)
    chrome.wait_for("known since noon")
    chrome.press("Snooze nightly/review dead")
    assert chrome.one("dialog[open] [name=by]").get_property("value") == "ann", "a name is asked for once"
    chrome.press("Snooze", "dialog[open]")
    chrome.wait_for("Quiet until")
    (told,) = [each for each in _incidents(world) if each["subject"] == "nightly/review"]
    assert (told["state"], told["acknowledged_by"]) == ("snoozed", "ann")


def test_dead_letters_of_one_cause_are_redriven_after_a_dry_run(chrome: Chrome, world: World) -> None:
    run = world.failed_run()
    chrome.js("sessionStorage.clear()")
    open_view(chrome, world, "#/deadletters")
    chrome.wait_for("no space for lemons")
    chrome.press("Redrive all 2…")
    give_token(chrome)
    chrome.wait_for("2 would be redriven")
    assert len(world.ask("/api/v1/deadletters?crew=shop")["deadletters"]) == 2, "a dry run changes nothing"
    world.go.touch()
    chrome.press("Redrive", "dialog[open]")
    chrome.wait_for("2 redriven")
    eventually(lambda: world.ask(f"/api/v1/runs/{run}")["status"] == "completed", world.daemon.process)
    chrome.wait(lambda: "no space for lemons" not in chrome.text(), "the letters are gone")
    world.go.unlink()


def test_last_words_are_told_only_with_the_token_and_a_letter_is_discarded_for_a_reason(
    chrome: Chrome, world: World
) -> None:
    run = world.failed_run(name="late", error="the oven is cold", tasks=1)
    chrome.js("sessionStorage.clear()")
    open_view(chrome, world, "#/deadletters")
    chrome.wait_for("the oven is cold")
    chrome.js("for (const each of document.querySelectorAll('details')) each.open = true")
    assert "attempt 2" not in chrome.text()
    chrome.press(f"Show the last words of {run}/bake-0")
    give_token(chrome)
    chrome.wait_for("attempt 2")
    assert_sound(chrome, "last-words")
    chrome.look()
    chrome.press(f"Discard {run}/bake-0")
    chrome.fill("reason", "nobody is hungry")
    chrome.press("Discard", "dialog[open]")
    chrome.wait_for("1 discarded")
    (letter,) = [
        each for each in world.ask("/api/v1/deadletters?state=discarded")["deadletters"] if each["run_id"] == run
    ]
    assert letter["note"] == "nobody is hungry"


def test_what_a_protocol_worker_says_stands_on_its_page_and_pushes_nothing_else_out(
    chrome: Chrome, world: World
) -> None:
    run = world.protocol_run()
    open_view(chrome, world, f"#/run/{run}/translate")
    chrome.wait_for("iteration 3: page 3 (3 of 3)")
    open_view(chrome, world, f"#/run/{run}")
    chrome.wait_for("task.completed")
    assert "task.progressed" not in chrome.text()


def test_a_wait_of_hours_leaves_room_for_what_was(chrome: Chrome, world: World) -> None:
    open_view(chrome, world, "#/")
    drawn = chrome.driver.execute_async_script(
        """
        const done = arguments[0], at = seconds => new Date(Date.now() + seconds * 1000).toISOString();
        const attempts = [{attempt: 1, started_at: at(-60), ended_at: at(-30), outcome: "failed"}];
        const task = {task_id: "a", state: "retry_wait", mark: "retry_wait", attempts, due_at: at(5400)};
        import("/assets/timeline.js").then(({timeline}) => {
            const found = timeline("r", [task], 1000);
            done([found.textContent, Number(found.querySelector("rect.bar").getAttribute("width"))]);
        })"""
    )
    words, width = drawn
    assert "again in 1h" in words
    assert width > 200, "a third of the width belongs to what is to come, and no more"


def test_what_was_cancelled_is_not_called_stuck(chrome: Chrome, world: World) -> None:
    run = submit(world.daemon, {"name": "unwanted", "tasks": [shell("long", "sleep 60"), shell("quick", "true")]})
    eventually(lambda: states(world.daemon, run) == {"long": "running", "quick": "completed"}, world.daemon.process)
    cancel = f"/api/v1/runs/{run}/tasks/long/cancel"
    assert ask(world.daemon, "POST", cancel, {"reason": "no longer wanted"})[0] == 200
    open_view(chrome, world, f"#/run/{run}")
    chrome.wait_for("What was cancelled, and why")
    assert "no longer wanted" in chrome.text()
    assert "stuck" not in chrome.text()


def test_a_run_that_nobody_knows_has_a_heading_and_a_way_back(chrome: Chrome, world: World) -> None:
    open_view(chrome, world, "#/run/nobody-knows-it")
    chrome.wait_for("crewd has not seen the run")
    assert_sound(chrome, "unknown-run")


def test_attempts_of_a_task_stand_beside_each_other(chrome: Chrome, world: World) -> None:
    run = world.failed_run(name="twice", error="the flour is wet", tasks=1)
    open_view(chrome, world, f"#/history/{run}/bake-0")
    chrome.wait_for("Attempt 1 and attempt 2")
    chrome.wait_for("duration seconds")
    chrome.press("Show what they wrote")
    # The token is asked for once in a tab: another test may have given it.
    chrome.wait(
        lambda: chrome.all("dialog[open] [name=token]") or chrome.all(".line-minus"), "the words or the question"
    )
    if chrome.all("dialog[open] [name=token]"):
        give_token(chrome)
    chrome.wait(lambda: len(chrome.all(".line-minus, .line-plus")) == 2, "both attempts' last words")
    assert [each.text.split("\n")[-1] for each in chrome.all(".line-minus, .line-plus")] == ["attempt 1", "attempt 2"]
    assert_sound(chrome, "compared")


def test_a_preview_names_everything_and_shows_no_secret(chrome: Chrome, world: World) -> None:
    run = world.failed_run(name="plans", error="the eggs are gone", tasks=2)
    chrome.js("sessionStorage.clear()")
    open_view(chrome, world, f"#/preview/{run}")
    chrome.wait_for("OVEN_TOKEN")
    assert "LEVEL=7" not in chrome.text() and "very-secret-words" not in chrome.text()
    assert len(chrome.all(".plan-drawing .box")) == 3
    chrome.press("Show values of the environment")
    give_token(chrome)
    chrome.wait_for("LEVEL=7")
    assert "OVEN_TOKEN=***" in chrome.text() and "very-secret-words" not in chrome.text()
    assert_sound(chrome, "preview")


def test_history_is_filtered_by_its_address(chrome: Chrome, world: World) -> None:
    world.failed_run(name="filtered", error="the salt is sweet", tasks=1)
    open_view(chrome, world, "#/history?level=attempts&state=failed&crew=shop")
    chrome.wait_for("the salt is sweet")
    assert chrome.one("select[name=state]").get_property("value") == "failed"
    crew = chrome.one("input[name=crew]")
    crew.clear()
    crew.send_keys("nobody" + ENTER)
    chrome.wait_for("Nothing in the history is like that")
    assert "crew=nobody" in chrome.driver.current_url


def test_a_recovery_plan_is_approved_once_and_its_run_moves(chrome: Chrome, world: World) -> None:
    world.interrupt()
    chrome.js("sessionStorage.clear()")
    open_view(chrome, world, f"#/run/{INTERRUPTED}")
    chrome.press("Approve…")
    assert str(world.calls) in chrome.one("dialog[open]").text, "nobody approves what they have not read"
    chrome.press("Never mind", "dialog[open]")
    open_view(chrome, world, "#/recoveries")
    chrome.wait_for("Waiting for a person")
    assert str(world.calls) in chrome.text(), "the exact command is shown"
    assert "02_write" in chrome.text() and "01_plan" in chrome.text()
    assert_sound(chrome, "recovery")
    chrome.look()
    chrome.press(f"Approve to resume {INTERRUPTED}")
    chrome.fill("by", "ann")
    chrome.press("Approve: resume", "dialog[open]")
    give_token(chrome)
    chrome.wait_for("verified")
    assert world.calls.read_text() == f"{INTERRUPTED}\n"


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_takes_hostile_names_as_text_and_can_be_listened_to(chrome: Chrome, world: World, view: str) -> None:
    hash, title = VIEWS[view]
    open_view(chrome, world, hash)
    if view in ("overview", "history", "run"):
        chrome.wait_for(MARKUP)
    assert chrome.js("return document.querySelectorAll('img, iframe, object, embed, base').length") == 0
    assert chrome.js("return [...document.querySelectorAll('script')].every(each => each.src)")
    # What turns the direction of writing around moves nothing out of its place; nor does a word of 10,000 letters.
    assert not any(each in chrome.text() for each in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068")
    assert title in chrome.js("return document.querySelector('main h1').textContent")
    assert_sound(chrome, view)


def test_the_keyboard_alone_reaches_everything(chrome: Chrome, world: World) -> None:
    open_view(chrome, world, "#/")
    chrome.keys(TAB)
    assert chrome.focused()["name"] == "Skip to content" and chrome.focused()["seen"]
    chrome.keys(ENTER)
    assert chrome.js("return document.getElementById('content').contains(document.activeElement)")
    chrome.keys("g", "i")
    chrome.wait(lambda: chrome.one("main h1").text == "Incidents", "g i")
    assert chrome.focused()["name"].startswith("Incidents"), "whoever listens begins at the heading"
    chrome.js("document.body.focus(); document.activeElement.blur()")
    open_view(chrome, world, "#/deadletters")
    walked = []
    for _ in range(14):
        chrome.keys(TAB)
        walked.append(chrome.focused())
    assert all(each["seen"] for each in walked), [each for each in walked if not each["seen"]]
    names = [each["name"] for each in walked]
    assert [name for name in names if name in ("Overview", "Incidents", "Dead letters", "Recoveries", "History")] == [
        "Overview", "Incidents", "Dead letters", "Recoveries", "History",
    ]  # fmt: skip
    assert "Open" in names and "Redriven" in names
    chrome.keys("?")
    chrome.one("dialog[open]")
    chrome.keys(ESCAPE)
    chrome.wait(lambda: not chrome.all("dialog[open]"), "Escape closes the dialog")


def test_a_daemon_that_is_gone_is_said_aloud_and_one_that_is_back_goes_on(chrome: Chrome, world: World) -> None:
    open_view(chrome, world, "#/")
    chrome.wait_for("nightly")
    chrome.js("window.same = true")
    world.stop()
    chrome.wait(lambda: "crewd does not answer" in chrome.one("#banner").text, "the banner", patience=30)
    assert chrome.one("#banner").get_attribute("role") == "alert"
    assert "nightly" in chrome.text(), "what was known stays, and is said to be old"
    world.restart()
    chrome.wait(lambda: not chrome.one("#banner").text, "the banner goes", patience=30)
    chrome.wait(lambda: "live" in chrome.one("#connection").text, "live")
    assert chrome.js("return window.same") is True


def assert_sound(chrome: Chrome, view: str) -> None:
    """Everything has a name, headings stand in order, words can be read by day and by night, nothing is too wide."""
    assert chrome.js("return document.querySelectorAll('main h1').length") == 1
    assert wrong_order(chrome) == []
    assert wrong_names(chrome) == []
    for how, dark, size in (("light", False, WIDE), ("dark", True, WIDE), ("narrow", False, NARROW)):
        chrome.look(dark=dark, size=size)
        assert wrong_contrasts(chrome) == [], how
        assert chrome.js("return document.documentElement.scrollWidth - innerWidth") <= 0, f"{how}: too wide"
        _keep(chrome, f"{view}-{how}")


def _keep(chrome: Chrome, name: str) -> None:
    """Save a picture for somebody to look at, where they said where to."""
    if folder := os.environ.get("CREWD_BROWSER_PICTURES"):
        chrome.shoot(Path(folder) / f"{name}.png")


def _incidents(world: World) -> list[dict[str, object]]:
    return list(world.ask("/api/v1/incidents")["incidents"])
