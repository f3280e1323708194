"""What each error class is met with where neither the run file nor the worker says otherwise, and what to do next."""

from collections.abc import Mapping
from types import MappingProxyType

from crewd.model.action import Handling
from crewd.model.failure import ErrorClass

ONCE = 2  # attempts of a class that is tried once more: it may have been chance, and rarely is

HANDLING: Mapping[ErrorClass, Handling] = MappingProxyType(
    {
        ErrorClass.SPAWN_FAILED: Handling(
            retry=False,
            guidance="The command could not be started, so nothing ran. Look at the command, the working folder and "
            "PATH of the task or its executor; correct them, then redrive the task.",
        ),
        ErrorClass.CONFIG_INVALID: Handling(
            retry=False,
            guidance="The worker rejects its configuration; it would do so again. The message names what it "
            "rejects: correct the run file or the executor, then redrive the task.",
        ),
        ErrorClass.INPUT_INVALID: Handling(
            retry=False,
            guidance="The worker rejects its payload or arguments; it would do so again. Compare the task in the run "
            "file with what the worker accepts, and submit it corrected.",
        ),
        ErrorClass.OUTPUT_INVALID: Handling(
            retry=True,
            attempts_max=ONCE,
            guidance="The worker ended well and its output breaks the contract: unreadable, or parts are missing. "
            "Look at the output in the attempt folder; state the wanted form more plainly, or correct the contract.",
        ),
        ErrorClass.OUTPUT_EMPTY: Handling(
            retry=True,
            attempts_max=ONCE,
            guidance="The worker ended well without the promised outcome: no output, or a file is missing or hollow. "
            "Look in its output for denied tools or an early stop, and at what the success contract asks for.",
        ),
        ErrorClass.PROTOCOL_ERROR: Handling(
            retry=True,
            attempts_max=ONCE,
            guidance="The worker does not keep to crewd-worker/1. Look at its standard output in the attempt folder "
            "and try it alone with `crewd worker check`; a program that speaks no protocol runs in command mode.",
        ),
        ErrorClass.TIMEOUT: Handling(
            retry=True,
            guidance="Time ran out: the attempt's own, or that of something it waited for. Look at what it did last "
            "in its output; raise the timeout if it was still at work, otherwise find out what it waited for.",
        ),
        ErrorClass.HEARTBEAT_LOST: Handling(
            retry=True,
            guidance="The worker fell silent for too long and was ended. `crewd explain` shows the evidence; if the "
            "silence was honest work, raise the heartbeat thresholds or let the worker announce that it is busy.",
        ),
        ErrorClass.WORKER_CRASH: Handling(
            retry=True,
            guidance="The program failed by itself. The stack or last words are at the end of its standard error; "
            "if every attempt ends at the same place, it is a defect and retries will not help.",
        ),
        ErrorClass.WORKER_KILLED: Handling(
            retry=True,
            guidance="A signal ended the worker, and crewd did not send it. Look in the kernel log for the memory "
            "killer and at the memory limits, then for a person or program that stopped it.",
        ),
        ErrorClass.RATE_LIMITED: Handling(
            retry=True,
            opens_circuit=True,
            guidance="The provider asks for fewer requests. crewd waits at least as long as it was told; if it keeps "
            "happening, lower the concurrency of the executor or raise the limit at the provider.",
        ),
        ErrorClass.PROVIDER_ERROR: Handling(
            retry=True,
            opens_circuit=True,
            guidance="The provider, or the network to it, failed. Look at the provider's status page, then at proxy, "
            "name service and firewall of this machine; crewd tries again by itself.",
        ),
        ErrorClass.AUTH_ERROR: Handling(
            retry=False,
            # Three refusals mean that the credential is bad: the others wait, instead of being buried one by one.
            opens_circuit=True,
            waits_for_human=True,
            guidance="The provider refuses the credential: missing, wrong, expired or not entitled. Retries cannot "
            "help. Log in again or replace the credential, then redrive the task.",
        ),
        ErrorClass.BUDGET_EXCEEDED: Handling(
            retry=False,
            opens_circuit=True,
            pauses=True,
            guidance="The account's quota or money is spent. Look at usage and billing at the provider; add credit "
            "or wait for the next period, then redrive the task.",
        ),
        ErrorClass.DISK_FULL: Handling(
            retry=False,
            opens_circuit=True,
            pauses=True,
            guidance="A disk or quota is full, so the worker could not write. Look with `df` at the task's folder, "
            "its temporary folder and crewd's state folder; make room, then redrive the task.",
        ),
        ErrorClass.CONTEXT_EXHAUSTED: Handling(
            retry=False,
            guidance="The model's context window is full; the same input would fill it again. Split the task, give "
            "it less to read or a model with a larger window, and start it without its old session.",
        ),
        ErrorClass.TASK_ERROR: Handling(
            retry=False,
            guidance="The worker did its work and reports that the task failed. Read its message and output; correct "
            "the task, or let the run file retry this class if another try may end differently.",
        ),
        ErrorClass.GATE_FAILED: Handling(
            retry=False,
            guidance="A gate refused the outcome. Its findings say what was expected and what was found; correct "
            "that and check the gate again, or override it with a reason where it may be.",
        ),
        ErrorClass.DEPENDENCY_FAILED: Handling(
            retry=False,
            guidance="A task that this one depends on did not complete, so it never started. `crewd why` names the "
            "cause; redrive that task first.",
        ),
        ErrorClass.CANCELLED: Handling(
            retry=False,
            guidance="It was cancelled on request, which is no fault of the task. It stays cancelled: submit the run "
            "again if it is wanted after all.",
        ),
        ErrorClass.UNKNOWN: Handling(
            retry=True,
            attempts_max=ONCE,
            guidance="It failed in a way that crewd does not know. Read its error and both outputs, and run the "
            "command by hand; let a program that says nothing say on standard error what went wrong.",
        ),
    }
)


def handling_of(error_class: ErrorClass) -> Handling:
    """What a class is met with by default."""
    return HANDLING[error_class]
