"""Tests of the engine: rounds wired to fakes, and the parts of it that only think."""
