"""The exception that stands for a user's mistake, and its form under torchrun."""


class UserError(Exception):
    """What was given, what is allowed, what to do: printed as one short message without a traceback."""


class RankError(UserError):
    """What one of several processes has met alone, and therefore prints itself; other errors are met by all."""
