"""From exceptions to exit codes: the one place where they meet.

0 ok · 1 error · 2 usage (click's own) · 3 some samples failed · 4 base station unreachable · 130 interrupted

Library code raises; a command runs inside `reported()`, and what it does not handle becomes a sentence on stderr and one
of these codes. A defect is neither caught nor dressed up: its traceback is its message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from uihlm_models.errors import ModelError
from uihlm_proto.errors import UihlmError, UnavailableError

EXIT_ERROR = 1
EXIT_SOME_FAILED = 3
EXIT_UNREACHABLE = 4
EXIT_INTERRUPTED = 130

# What a command may meet that is no defect of this program.
FAILURES = (UihlmError, ModelError)


class Failure(click.ClickException):
    """A sentence on stderr, and an exit code."""

    exit_code = EXIT_ERROR


class Unreachable(Failure):
    """There is no base station where one was named."""

    exit_code = EXIT_UNREACHABLE


class SomeSamplesFailed(Failure):
    """A run that went to its end, but not every sample has an answer."""

    exit_code = EXIT_SOME_FAILED


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that ends with this error."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_UNREACHABLE if isinstance(error, UnavailableError) else EXIT_ERROR


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn what a command does not handle into its exit; works as `with reported():` and as a decorator."""
    try:
        yield
    except UnavailableError as error:
        raise Unreachable(str(error)) from error
    except FAILURES as error:
        raise Failure(str(error)) from error
    except KeyboardInterrupt as error:
        click.echo("interrupted", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from error
    except OSError as error:
        # A closed pipe is click's to end quietly. Errors of writing, a full disk's among them, name no file.
        if isinstance(error, BrokenPipeError) or error.strerror is None:
            raise
        raise Failure(error.strerror if error.filename is None else f"{error.filename}: {error.strerror}") from error
