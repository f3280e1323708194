"""What a worker finds in its environment: what was named, and nothing by accident."""

from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.places import environment
from crewd.model.managed import Starting
from crewd.model.plan import RunPlan
from tests.engine.managed.workshop import shell


def test_only_what_is_named_passes_into_the_environment() -> None:
    environ = {"PATH": "/bin", "AWS_SECRET": "x", "MODEL": "m", "HOME": "/h", "XDG_RUNTIME_DIR": "/r"}
    task = shell("a", "true", env_pass=("MODEL", "MISSING"), env={"HOME": "/other", "A": "1"})
    run = RunPlan(run_id="run-1", crew="shop", tasks=(task,))
    options = TaskOptions(folder="/runs", env_pass=("PATH", "HOME"))
    found = environment(run, task, Starting(0.0, 2, 7), "/runs/run-1/a/2", environ, options)
    own = {name: value for name, value in found.items() if not name.startswith("CREWD_") and name != "TRACEPARENT"}
    assert own == {"PATH": "/bin", "MODEL": "m", "HOME": "/other", "A": "1"}
    assert found["CREWD_ATTEMPT"] == "run-1/a/2"
    assert (found["CREWD_FENCE"], found["CREWD_ATTEMPT_NUMBER"]) == ("7", "2")
