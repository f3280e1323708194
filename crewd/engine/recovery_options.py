"""What the operator wants done for interrupted runs of others."""

from dataclasses import dataclass

from crewd.model.recovery import RESUME


@dataclass(frozen=True)
class RecoveryRule:
    """What is done for the runs of one runtime or root; "" fits any. The first that fits counts."""

    mode: str = "ask"  # ask, auto, off
    command: tuple[str, ...] = ()  # () = plans only
    cancel_command: tuple[str, ...] = ()
    runtime: str = ""
    root: str = ""  # the folder of a source

    def command_of(self, action: str) -> tuple[str, ...]:
        return self.command if action == RESUME else self.cancel_command


@dataclass(frozen=True)
class RecoveryOptions:
    """How runs of others are recovered. Times in seconds."""

    rules: tuple[RecoveryRule, ...] = ()
    deadline: float = 120.0  # from the end of a command to the first progress of its run
    command_timeout: float = 60.0
    max_attempts: int = 2

    def rule(self, runtime: str, root: str) -> RecoveryRule:
        """Find the rule for a source; `root` is its key, as `pi_crew:/path`."""
        folder = root.partition(":")[2]
        for rule in self.rules:
            if rule.runtime in ("", runtime) and rule.root in ("", folder):
                return rule
        return RecoveryRule(mode="off")
