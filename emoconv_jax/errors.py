"""The two errors a user can meet, told apart by the exit code they end a command with."""


class EmoconvError(Exception):
    """A job failed: one line that names the file or field, what was found and what is allowed.

    The command line prints the message and exits with code 1.
    """


class UsageError(EmoconvError):
    """The request itself is wrong (an unknown emotion, a negative weight). Exit code 2."""
