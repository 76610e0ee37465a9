"""The two errors a user can meet, told apart by the exit code they end a command with."""


class EmoconvError(Exception):
    """A job failed: one line that names the file or field, what was found and what is allowed.

    The command line prints the message and exits with code 1.
    """

    def __init__(self, message: str, kind: str = ""):
        """Args: message: the line. kind: a word or two for it, where callers sort by that."""
        super().__init__(message)
        self.kind = kind


class UsageError(EmoconvError):
    """The request itself is wrong (an unknown emotion, a negative weight). Exit code 2."""
