"""Runs that crewd itself works on: what their workers say, and how they look to whoever judges."""
