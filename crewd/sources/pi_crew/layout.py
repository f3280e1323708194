"""Where pi-crew keeps what: names on disk, and words for a status."""

from crewd.model.run import RunStatus, TaskStatus

RUNTIME = "pi_crew"

MANIFEST = "manifest.json"
TASKS = "tasks.json"
EVENTS = "events.jsonl"
HEARTBEAT = "heartbeat.json"  # of the runner; those of workers stand in tasks.json
ASYNC_PID = "async.pid"
OWNERSHIP = "ownership-map.json"
LETTERS = "deadletter.jsonl"
AGENTS = "agents"
ARCHIVE_ENDING = ".archive.jsonl"
CORRUPT_MANIFEST = MANIFEST + ".corrupt-"

RUNS = "state/runs"
# Of a project, in the order in which pi-crew 0.2 and later look.
PROJECT_ROOTS = (".crew", ".pi/teams")
USER_ROOT = ".pi/agent/extensions/pi-crew"  # below a home folder
INDEX = "active-run-index.json"
INDEX_BINARY = "active-run-index.bin"
INDEX_MAGIC = b"PICREW2BIN\x00\x00\x00\x01"

RUN_STATUS = {status.value: status for status in RunStatus if status is not RunStatus.UNKNOWN}
TASK_STATUS = {status.value: status for status in TaskStatus if status is not TaskStatus.UNKNOWN}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every field that pi-crew 0.10.1 names, whether crewd reads it or not.
MANIFEST_FIELDS = _names("""
    schemaVersion runId sessionId team workflow goal status workspaceMode createdAt updatedAt cwd stateRoot
    artifactsRoot tasksPath eventsPath artifacts async planApproval plan waitState ownerSessionId
    skillOverride runtimeResolution runConfig runKind args budgetTotal budgetWarning budgetAbort
    budgetUnlimited summary policyDecisions goalAchieved goalAchievementNote modelContext
""")
TASK_FIELDS = _names("""
    id runId stepId role agent title displayName status dependsOn cwd worktree promptArtifact resultArtifact
    logArtifact transcriptArtifact startedAt finishedAt exitCode model modelAttempts modelRouting usage
    jsonEvents agentProgress error failureCause claim heartbeat checkpoint attempts workerExitStatus
    terminalEvidence taskPacket verification specGate graph adaptive planItem replanDroppedAt depth
    allocation policy controlReservation diagnostics segment metrics lifetimeUsage pendingSteers waiting
    dependencyContextText
""")
