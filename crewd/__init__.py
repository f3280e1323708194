"""crewd keeps crews of AI agents working and tells the truth about them."""

__version__ = "0.1.0"
