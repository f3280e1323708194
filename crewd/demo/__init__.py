"""A crew that is played: real files in a real format, real processes, and a story. Only `crewd demo` uses it."""
