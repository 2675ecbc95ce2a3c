"""The one exception for something a user did or can mend.

`cli.main` prints it as two lines and exits with 1. Anything else that escapes is a bug in `va` and
keeps its traceback.
"""


class VAError(Exception):
    """What is wrong, with which file or option, and what to do next.

    Args:
        message: One line: what is wrong, naming the file, key or option. Lines of a library's text become one.
        hint: One line: what the user can do about it.
    """

    def __init__(self, message: str, hint: str) -> None:
        message = " ".join(message.splitlines())
        super().__init__(f"{message}\n{hint}")
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["VAError"], tuple[str, str]]:
        return VAError, (self.message, self.hint)  # else it could not come back from another process
