"""The error that a user can mend."""

import difflib
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TypeVar

T = TypeVar("T")


class UsageError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the argument, its value, what was expected and the way out; entry points
    print it without a traceback.

    Attributes:
        status: with which the program ends.
    """

    status = 2


class Interrupted(UsageError):
    """A run that was told to stop, and can go on."""

    status = 130


def fail(message: str, status: int = 2) -> NoReturn:
    """Print `message` as one line on stderr and end the program."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)


def run(command: Callable[[], T]) -> T:
    """Run a command; a user's mistake, or the file system's no, is one line that ends the program with a status."""
    try:
        try:
            return command()
        finally:
            print(end="", flush=True)  # what cannot be written is told here, and not while Python ends
    except UsageError as error:
        fail(str(error), error.status)
    except KeyboardInterrupt:
        fail("interrupted", status=130)
    except BrokenPipeError:  # who reads the output has seen enough
        _is_output_lost()
        raise SystemExit(1) from None
    except OSError as error:
        place = "standard output" if _is_output_lost() else error.filename2 or error.filename or "file"
        fail(f"{place}: {error.strerror or error}; choose a place that can be written and read")


def _is_output_lost() -> bool:
    """Return whether the standard output takes nothing more, and if so let Python not try once more at the end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def closest(name: str, candidates: Sequence[str], most: int = 5) -> str:
    """Name the candidates that look most like `name`, or the first ones where none does."""
    return ", ".join(difflib.get_close_matches(name, candidates, n=most, cutoff=0.4) or list(candidates)[:most])


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def check_name(argument: str, name: object) -> None:
    """Refuse a name that could not be one folder.

    Raises:
        UsageError: it is no text of letters, digits, dots, dashes, underscores and equals signs, or `.` or `..`.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.=-]+", name) or set(name) == {"."}:
        own = "; the library's own name of it goes into model.architecture" if argument == "model.name" else ""
        raise UsageError(
            f"{argument}={name}: expected a name of letters, digits, '.', '-' and '_'; a folder is named so{own}"
        )


def quoted(name: str, value: object) -> str:
    """Write an argument as a shell and Hydra take it for a text, whatever characters it has."""
    text = str(value).replace("\\'", "\\\\'").replace("'", "\\'").replace("${", "\\${")
    return shlex.quote(f"{name}='{text}'")


def check_flag(argument: str, value: object) -> None:
    """Refuse what is neither true nor false; Hydra takes `no` and `off` for words.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{argument}={value}: expected true or false")


def check_known(group: str, given: Iterable[object], known: Sequence[str]) -> None:
    """Refuse settings of a group that it does not have.

    Raises:
        UsageError: there is one.
    """
    unknown = sorted({str(name) for name in given} - {*known})
    if unknown:
        raise UsageError(f"{group}.{unknown[0]}: no such setting; there are {', '.join(known)}")


def check_number(
    argument: str, value: object, least: float = 0, most: float = math.inf, *, whole: bool = False
) -> None:
    """Refuse what is no finite number from `least` to `most`.

    Raises:
        UsageError: it is not, or it is not whole where it has to be.
    """
    right = isinstance(value, int) if whole else isinstance(value, (int, float))
    inside = right and not isinstance(value, bool) and least <= value <= most and value < math.inf  # type: ignore[operator]
    if not inside:
        bounds = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:.10g}"
        raise UsageError(f"{argument}={value}: expected a {'whole ' if whole else ''}number {bounds}")


def printable(text: str) -> str:
    """Write what no terminal or file takes, bytes of a file's name that are no UTF-8, in hexadecimal."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
