"""What an agent shows of itself while it works, and what it has used, told in few words."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crewd.cli.text import clean, count, span

NAME_MAX, SAID_MAX = 60, 120
TOOLS_MAX = 3


def doing(task: Mapping[str, Any]) -> str:
    """Say what the agent of a task does now: in which tool it is, or what it waits for; "" where there is none."""
    agent = task.get("agent")
    if not agent:
        return ""
    if not agent["understood"]:
        return f"prints what {task['profile']} is not known to print: judged as any command"
    if agent["throttled"]:
        left = agent["throttled_for_seconds"]
        length = "its provider did not say for how long" if left is None else f"for {span(left)} more"
        return f"throttled, {length}{_refused(agent)}"
    if agent["tools"]:
        return _tools(agent["tools"])
    if agent["refused"]:
        return f"means to ask again{_refused(agent)}"
    return "waits for its model" if agent["session"] else "has not said anything yet"


def used(usage: Mapping[str, Any] | None) -> str:
    """Write what was used as budgets count it, without what came from a cache: "2,127 tokens, 0.0045 USD"."""
    if not usage:
        return ""
    return amount(usage["input"] + usage["output"] + usage["cache_write"], usage["cost_usd"])


def used_by(task: Mapping[str, Any]) -> str:
    """The same of a task. Of a killed attempt most programs tell no cost: what the others cost is a lower bound."""
    words = used(task["usage"] or (task.get("agent") or {}).get("usage"))
    if not (task["usage"] and task["usage"]["cost_usd"]):
        return words
    untold = any(
        details.get("tokens") and "cost_usd" not in details
        for details in (each.get("details") or {} for each in task["attempts"])
    )
    return words.replace(", ", ", at least ") if untold else words


def amount(tokens: int, cost_usd: float | None) -> str:
    """Write tokens and their cost; "" where there are none. None: nobody tells the cost."""
    if not tokens and not cost_usd:
        return ""
    cost = "" if cost_usd is None else f", {cost_usd:.4f} USD"
    return f"{tokens:,} tokens{cost}"


def used_by_all(tasks: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Add up what tasks have used; None where none of them tells. The cost is that of those who tell one."""
    known = [task["usage"] for task in tasks if task["usage"]]
    if not known:
        return None
    total: dict[str, Any] = {
        name: sum(each[name] for each in known) for name in ("input", "output", "cache_read", "cache_write")
    }
    costs = [each["cost_usd"] for each in known if each["cost_usd"] is not None]
    return total | {"cost_usd": sum(costs) if costs else None}


def in_short(task: Mapping[str, Any]) -> str:
    """Say in one line what the agent of a task does, how its attempt began, and what the task has used so far."""
    agent = task.get("agent") or {}
    resumed = "resumed its session" if agent.get("rung") == "resume" else ""
    return "; ".join(each for each in (doing(task), resumed, used_by(task)) if each)


def facts(task: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell everything that is known of the agent of a task: of the attempt at work, or else of its last one."""
    agent = task.get("agent")
    details = agent or (task["attempts"][-1].get("details") or {} if task["attempts"] else {})
    profile = task.get("profile") or details.get("profile")
    if not profile or not (agent or details.get("profile")):
        return
    program = " ".join(str(each) for each in (profile, details.get("version")) if each)
    model = details.get("model")
    yield "agent", f"{program}, model {model}" if model else program
    yield "does", doing(task)
    yield "session", str(details.get("session") or "none was told")
    yield "began", _began(details)
    called = details.get("tools_begun") if agent else details.get("tools")
    yield "tools", f"{count(int(called), 'call')}" if called else ""
    yield "denied", ", ".join(map(str, details.get("denied") or ()))
    yield "used", used_by(task)


def _began(details: Mapping[str, Any]) -> str:
    because, saved = details.get("because") or "", details.get("saved_tokens")
    match details.get("rung"):
        case "resume":
            return str(because or "it resumed its session") + (f"; {saved:,} tokens saved" if saved else "")
        case "fresh":
            return f"afresh: {because}" if because else "afresh"
    return ""


def _tools(tools: list[Mapping[str, Any]]) -> str:
    names = [f"in {clean(tool['name'], NAME_MAX)} for {span(tool['for_seconds'])}" for tool in tools[:TOOLS_MAX]]
    more = f" and {len(tools) - TOOLS_MAX} more" if len(tools) > TOOLS_MAX else ""
    return ", ".join(names) + more


def _refused(agent: Mapping[str, Any]) -> str:
    return f": {clean(agent['refused'], SAID_MAX)}" if agent["refused"] else ""
