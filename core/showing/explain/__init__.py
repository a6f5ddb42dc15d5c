"""The interactive page of `densedet show explain`: its numbers in Python, its behaviour in JavaScript."""
