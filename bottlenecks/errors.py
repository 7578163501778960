"""The error that a user can mend."""


class UsageError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the argument, its value, what was expected and the way out; entry points
    print it without a traceback.
    """
