"""Which lines of the pages are not run by these tests, and why: everything else is run.

A line that is not run is held against the commands of crewd all the same, wherever crewd is called in it, and the
shell reads it. Each row is a pattern that is looked for in the line; a row that fits no line is an error.
"""

NOT_RUN = {
    # Of crewd's own commands.
    r"^crewd serve": "the daemon that all lines ask is one; tests/end_to_end start others",
    r"^crewd demo": "plays for minutes; tests/cli/test_demo.py, tests/cli/test_demo_agents.py",
    r"^crewd doctor --canary": "takes half a minute; tests/cli/test_doctor.py",
    r"^crewd handover": "ends the daemon that all lines ask; tests/end_to_end/test_managed_runs.py",
    r"^crewd recover (show|approve|decline)": "wants a run that was interrupted; tests/cli/test_recover.py",
    r"^crewd notify test chat": "wants somebody to notify; tests/cli/test_notify.py",
    r"^crewd worker check": "wants a worker; tests/cli/test_worker.py",
    r"crewd install (?!.*--dry-run)": "changes the units of a person; tests/deploy",
    r"completion (bash|zsh)": "is for the shell of a person; tests/cli/test_completion.py",
    r"^CREDENTIALS_DIRECTORY=.* crewd serve": "the daemon that all lines ask is one; tests/web",
    # Of others.
    r"\bsudo\b": "changes the machine",
    r"^(systemctl|loginctl|journalctl)\b": "wants a booted systemd; tests/deploy boot one",
    r"\b(podman|docker|kubectl) ": "wants an engine, or a cluster; make container",
    r"^python -m deploy\.grafana\.source": "draws the dashboards anew; tests/deploy",
    r"^make ": "sets up an environment; the tests themselves run by it",
    r"^(python3 -m venv|\S*pip|pipx|uv) ": "installs; tests/deploy",
    r"^python3 deploy/deb/build.py": "builds a package for minutes; make deb",
    r"^export PATH=": "is for the shell of a person",
    r"^sleep \d+$": "passes time",
    r"^sleep 3600 &": "the tests lay down a worker.pid of their own",
    r"^(prometheus|prometheus-alertmanager|python3 receiver\.py) ": "goes on; tests/end_to_end/test_alert_chain.py",
    r"^kill |^cd && rm ": "ends and takes away what was begun above",
    r"^amtool (silence|alert)\b": "wants an Alertmanager that runs; tests/end_to_end/test_alert_chain.py",
    r"^tail -f alerts.txt": "waits for what a receiver writes; tests/end_to_end/test_alert_chain.py",
    r"^lnav ": "fills a screen, or installs into a home; tests/deploy",
}

# What goes on until ^C: it is run until it says something, and ended.
FOLLOWS = (r"^crewd (status --watch|events -f)", r"^tail .*-F ", r"curl .*text/event-stream")

# What is run, and may leave with something else than 0.
LEAVES_WITH = {
    r"^crewd doctor": ({0, 1}, "1 where this machine lacks something"),
    r"^crewd (wait|run|why) ": ({0, 1}, "1 where the run has failed"),
    r"^crewd cancel RUN": ({0, 77}, "77 where the run has ended"),
    r"^crewd history prune ": ({77}, "only says what would go"),
    r"^crewd incidents snooze crewd budget": ({3}, "no budget is spent here"),
    r"^crewd submit .*--dry-run": ({0}, "nothing is begun"),
}

# Run files of the pages whose programs are not on every machine: these stand in where they are run, not only read.
STAND_INS = {
    "crew.toml": (("test", "report.xml"), ("report", "report.txt")),
    "nightly.toml": (("build", "built"), ("test", "tested")),
}
