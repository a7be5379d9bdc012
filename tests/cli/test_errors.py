"""Failures become sentences and exit codes."""

import errno

import click
import pytest

from uihlm_cli.errors import Failure, reported


def test_a_full_disk_is_said_though_writing_names_no_file():
    with pytest.raises(Failure, match="No space left on device"), reported():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_cannot_be_read_is_named():
    with pytest.raises(click.ClickException, match=r"there\.json: Permission denied"), reported():
        raise OSError(errno.EACCES, "Permission denied", "there.json")


def test_a_closed_pipe_is_left_to_click():
    with pytest.raises(BrokenPipeError), reported():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
