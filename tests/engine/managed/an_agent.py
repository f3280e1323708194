"""A stand-in that speaks as Claude Code does, so that the engine is tried without it. A story is a few calls.

Run as a program: `an_agent.py STORY [options]`, where STORY is Python that calls the functions below.
"""

import json
import os
import signal
import sys
import time
import uuid
from pathlib import Path

_said = 0


def _print(**event: object) -> None:
    print(json.dumps(event), flush=True)


def resumed() -> str:
    """The session that it goes on with; "": none."""
    words = sys.argv[2:]
    return words[words.index("--resume") + 1] if "--resume" in words else ""


def begin(model: str = "claude-sonnet-4-5-20250929") -> str:
    """Tell the session, and keep a file of it as the program does."""
    session = resumed() or str(uuid.uuid4())
    folder = Path.home() / ".claude" / "projects" / "p"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{session}.jsonl").open("a").write("{}\n")
    _print(type="system", subtype="init", session_id=session, model=model, claude_code_version="2.1.329")
    return session


def say(words: str = "I look.", input: int = 100, output: int = 10) -> None:
    """Say something, which costs tokens."""
    global _said
    _said += 1
    usage = {"input_tokens": input, "output_tokens": output}
    message = {"id": f"msg_{os.getpid()}_{_said}", "content": [{"type": "text", "text": words}], "usage": usage}
    _print(type="assistant", message=message)


def call(id: str = "t1", command: str = "true", input: int = 100, output: int = 10) -> None:
    """Begin a tool call."""
    global _said
    _said += 1
    usage = {"input_tokens": input, "output_tokens": output}
    content = [{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command}}]
    _print(type="assistant", message={"id": f"msg_{os.getpid()}_{_said}", "content": content, "usage": usage})


def back(id: str = "t1", words: str = "done", is_error: bool = False) -> None:
    """End a tool call."""
    content = [{"type": "tool_result", "tool_use_id": id, "content": words, "is_error": is_error}]
    _print(type="user", message={"role": "user", "content": content})


def refused(error: str = "rate_limit", status: int = 429, delay: float = 1.0) -> None:
    """Tell that the provider refused, and that it will be tried again."""
    _print(
        type="system",
        subtype="api_retry",
        attempt=1,
        max_retries=10,
        retry_delay_ms=delay * 1000,
        error_status=status,
        error=error,
    )


def end(input: int = 200, output: int = 20, cost: float = 0.01, is_error: bool = False, **more: object) -> None:
    """Tell how it ended."""
    usage = {"input_tokens": input, "output_tokens": output}
    reason = "api_error" if is_error else "completed"
    event = {"terminal_reason": reason, "result": "done", "permission_denials": [], **more}
    _print(type="result", subtype="success", is_error=is_error, total_cost_usd=cost, usage=usage, **event)


def die() -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def wait(seconds: float = 60.0) -> None:
    time.sleep(seconds)


if __name__ == "__main__":
    exec(sys.argv[1])
