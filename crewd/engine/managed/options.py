"""What the scheduler may be told. All times are seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crewd.model.plan import BudgetPlan
from crewd.policy.circuit import CircuitOptions


@dataclass(frozen=True)
class TaskOptions:
    """How many, how fast, and where."""

    folder: str  # of attempts: FOLDER/RUN/TASK/ATTEMPT
    max_parallel: int = 4
    executors_max: Mapping[str, int] = field(default_factory=dict)  # executor -> attempts at one time
    start_rate: float = 20.0  # a second, on average; 0: as fast as slots allow
    start_burst: int = 20
    poll_seconds: float = 0.25  # between two looks at a protocol worker's output
    output_every: float = 10.0  # between two looks at how much a worker has written
    drain_timeout: float = 30.0
    retries_per_hour: int = 200  # of one crew; 0: any number
    secrets_folder: str = ""
    env_pass: tuple[str, ...] = ()
    ended_max: int = 500  # runs kept in view after their end
    circuits: CircuitOptions = field(default_factory=CircuitOptions)
    redrive_rate: float = 1.0  # dead letters a second
    parole: str = "offer"
    day_budget: BudgetPlan = field(default_factory=BudgetPlan)  # of everything, in one UTC day
    crew_budget: BudgetPlan = field(default_factory=BudgetPlan)  # of each crew, in one UTC day
