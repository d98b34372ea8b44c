"""The one exception that a person's input can cause."""


class InputError(ValueError):
    """Something that was handed in cannot be used.

    The message is one line: what was expected, what came, and how to mend it. The command line
    prints it and exits with 1; nothing else in the code base is meant to be caught there.
    """
