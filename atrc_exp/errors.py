"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """What was given, what is allowed, what to do: printed as one short message without a traceback."""
