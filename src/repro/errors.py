"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what was asked for. Its message is one line that names the key, its value and what is
    allowed; the command line prints it to stderr, without a traceback, and exits with code 2."""
