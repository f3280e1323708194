"""Failures: the closed set of classes that retries, metrics, dead letters and history share."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class ErrorClass(StrEnum):
    """Why an attempt did not succeed. Every attempt that ends badly has exactly one."""

    SPAWN_FAILED = "spawn_failed"
    CONFIG_INVALID = "config_invalid"
    INPUT_INVALID = "input_invalid"
    OUTPUT_INVALID = "output_invalid"
    OUTPUT_EMPTY = "output_empty"
    PROTOCOL_ERROR = "protocol_error"
    TIMEOUT = "timeout"
    HEARTBEAT_LOST = "heartbeat_lost"
    WORKER_CRASH = "worker_crash"
    WORKER_KILLED = "worker_killed"
    RATE_LIMITED = "rate_limited"
    PROVIDER_ERROR = "provider_error"
    AUTH_ERROR = "auth_error"
    BUDGET_EXCEEDED = "budget_exceeded"
    DISK_FULL = "disk_full"
    CONTEXT_EXHAUSTED = "context_exhausted"
    TASK_ERROR = "task_error"
    GATE_FAILED = "gate_failed"
    DEPENDENCY_FAILED = "dependency_failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Failure(msgspec.Struct, frozen=True, gc=False):
    """What went wrong with one attempt. Texts are redacted and capped by whoever makes one."""

    error_class: ErrorClass
    message: str = ""  # one line for a person
    code: str = ""  # a finer word within the class: no_result, startup_timeout, version, bad_lines, stdin_timeout
    retryable: bool | None = None  # the worker's own word; None: it said nothing
    retry_after: float | None = None  # seconds before which nobody may try again
    guidance: str = ""  # what to do next
    details: Mapping[str, Any] = {}


class Exit(msgspec.Struct, frozen=True, gc=False):
    """How a process ended: one of the two is set, or neither where nobody could record it."""

    code: int | None = None
    signal: int | None = None
