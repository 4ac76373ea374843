"""The error that is the user's to mend, told apart from our own by its type."""


class UserError(ValueError):
    """What was given or found cannot be used; the message says what, where and what would do.

    The command line prints it as one line. Any other ValueError that gets there is a bug.
    """
