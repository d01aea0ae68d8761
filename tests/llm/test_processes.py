"""Processes as /proc shows them."""

import os
import subprocess
import sys

from llm.processes import children, parent_of, title


def test_a_child_is_found_by_its_parent_and_by_its_name_until_it_is_gone() -> None:
    command = [sys.executable, "-c", "input()", "a (strange) name"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.pid in children(os.getpid())
        assert parent_of(child.pid) == os.getpid()
        assert child.stdin
        child.stdin.close()
        child.wait()
    assert parent_of(child.pid) is None
    assert title(child.pid) == ""


def test_a_title_is_the_command_line() -> None:
    assert title(os.getpid()).startswith(sys.executable) or "pytest" in title(os.getpid())
