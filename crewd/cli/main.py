"""The command line: the names of all commands, and where each lives."""

import click

from crewd import __version__
from crewd.cli.lazy import LazyGroup

COMMANDS = {
    "serve": ("crewd.cli.serve:serve", "Watch crews and tell what is true of them."),
    "run": ("crewd.cli.run:run", "Submit a run file and follow it to its end."),
    "submit": ("crewd.cli.submit:submit", "Hand a run file to the daemon."),
    "wait": ("crewd.cli.wait:wait", "Wait until a run has ended."),
    "logs": ("crewd.cli.logs:logs", "Print what a task wrote."),
    "cancel": ("crewd.cli.cancel:cancel", "Cancel a run or one of its tasks."),
    "retry": ("crewd.cli.retry:retry", "Try a task again now."),
    "pause": ("crewd.cli.doors:pause", "Start nothing until crewd resume."),
    "resume": ("crewd.cli.doors:resume", "Start tasks again."),
    "drain": ("crewd.cli.doors:drain", "Start nothing fresh, and let what has begun end."),
    "deadletter": ("crewd.cli.deadletter:deadletter", "Look at given-up tasks, and try them again."),
    "recover": ("crewd.cli.recover:recover", "Look at interrupted runs, and have them recovered."),
    "handover": ("crewd.cli.handover:handover", "Let the daemon leave and its workers stay."),
    "demo": ("crewd.cli.demo:demo", "Play a crew in a temporary folder and watch it."),
    "status": ("crewd.cli.status:status", "Show runs and workers, those in trouble first."),
    "show": ("crewd.cli.show:show", "Show one run with its tasks."),
    "explain": ("crewd.cli.explain:explain", "Show the evidence behind the verdict on one task."),
    "why": ("crewd.cli.why:why", "Say why a run stands where it stands, and what to do."),
    "events": ("crewd.cli.events:events", "Show what happened, and follow what happens."),
    "incidents": ("crewd.cli.incidents:incidents", "Show what is wrong and lasts; acknowledge or snooze it."),
    "metrics": ("crewd.cli.metrics:metrics", "Show the daemon's metrics, or how a week came out."),
    "history": ("crewd.cli.history:history", "Look back at runs, tasks and attempts; keep the memory of them."),
    "export": ("crewd.cli.export:export", "Write one run with all that is recorded of it."),
    "top": ("crewd.cli.top:top", "Watch runs and workers full screen, and act by a key."),
    "orphans": ("crewd.cli.orphans:orphans", "List processes that outlived their run, and stop them."),
    "replay": ("crewd.cli.replay:replay", "Say what other settings would have made of a recorded period."),
    "beat": ("crewd.cli.beat:beat", "Write a sign of life of a worker."),
    "worker": ("crewd.cli.worker:worker", "Try whether a worker keeps its contract."),
    "config": ("crewd.cli.config:config", "Check, show and describe the settings."),
    "notify": ("crewd.cli.notify:notify", "Try the channels on which people are told of incidents."),
    "doctor": ("crewd.cli.doctor:doctor", "Check what crewd needs of this machine."),
    "diagnose": ("crewd.cli.diagnose:diagnose", "Gather everything about a run in one file, without secrets."),
    "install": ("crewd.cli.install:install", "Make crewd a service of systemd, or undo that."),
    "reload": ("crewd.cli.reload:reload", "Have the daemon read its settings again."),
    "runbook": ("crewd.cli.runbook:runbook", "Show what to do about an alert."),
    "assets": ("crewd.cli.assets:assets", "Show or write units, rules, dashboards, examples and runbooks."),
    "log-level": ("crewd.cli.log_level:log_level", "Show or change what the running daemon logs."),
    "completion": ("crewd.cli.completion:completion", "Print what makes a shell complete crewd's commands."),
    "man": ("crewd.cli.man:man", "Print the manual page of a command."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 ok, 1 found or failed, 2 usage, 3 nothing matched, 69 daemon unreachable, 77 refused,"
    " 78 bad configuration or run file, 124 not ended in time.",
)
@click.version_option(__version__, message="crewd %(version)s")
def cli() -> None:
    """crewd keeps crews of AI agents working and tells the truth about them."""
