"""The exception of this package, which imports nothing of the framework around it."""


class BoundaryError(ValueError):
    """What was given, what is allowed and what to do, in one line."""
