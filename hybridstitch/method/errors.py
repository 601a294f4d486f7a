"""The one error that a user is meant to read."""


class HybridStitchError(ValueError):
    """Bad input or a machine that does not fit: one line that says what was wrong, what is allowed, what to do.

    The command line prints it without a traceback and exits with code 2; a server answers 400.
    """
