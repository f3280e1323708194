"""Managed runs: crewd runs their tasks itself, one fenced attempt after the other, and loses none.

`scheduler` is the loop on one screen: it starts what may start. `conduct` takes one attempt from its start to the
proof that nothing of it is left. `settling` turns what happened into one transaction. `recovery` accounts for what a
predecessor left. `actions` is what people may ask.
"""
