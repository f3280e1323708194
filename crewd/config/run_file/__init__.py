"""Run files: from the text that a person or program submitted to a plan, or to everything that is wrong with it."""

from crewd.config.run_file.executor import Executor
from crewd.config.run_file.making import TaskDefaults
from crewd.config.run_file.planning import plan
from crewd.config.run_file.problems import Code, Problem, RunRefused
from crewd.config.run_file.read import Format, format_of, read_text

__all__ = ["Code", "Executor", "Format", "Problem", "RunRefused", "TaskDefaults", "format_of", "plan", "read_text"]
