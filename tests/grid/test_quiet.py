"""What a library prints goes to a file, and what we say still to the terminal, before, during and after."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
import textwrap

import pytest

from fastcifar.grid.quiet import output_in
from fastcifar.system import machine

PROGRAM = textwrap.dedent("""
    import logging, os, sys
    from pathlib import Path
    from rich.console import Console
    from rich.live import Live
    from fastcifar.grid.quiet import output_in
    from fastcifar.show.console import note

    library = logging.getLogger("library")
    library.addHandler(logging.StreamHandler())
    try:
        shown = Console(stderr=True)
        with output_in(Path(sys.argv[1])), Live("table", console=shown, auto_refresh=False, redirect_stdout=False):
            assert sys.stderr.isatty()
            os.write(2, b"from C\\n")
            library.error("from a logger")
            print("from a thread of the library")
            note("our note")
            raise ValueError
    except ValueError:
        os.write(2, b"later from C\\n")
        note("our later note")
        print("the result")
""")


def test_on_a_terminal_only_our_own_words_are_seen(tmp_path):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    file = tmp_path / "library.log"
    file.write_text("of an earlier command\n")
    command = [sys.executable, "-c", PROGRAM, file]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, cwd=machine.CHECKOUT, check=True).stdout
    os.close(theirs)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert out == b"the result\n"
    kept = ["of an earlier command", "from C", "from a logger", "from a thread of the library"]
    assert file.read_text().splitlines() == kept
    for text in ("table", "our note", "later from C", "our later note"):
        assert text in seen
    assert "from a" not in seen
    assert seen.count("from C") == 1, "the later one"


def test_a_stream_of_ones_own_stays(tmp_path, capsys):
    """As in a notebook, where sys.stderr is no file."""
    before = sys.stderr
    with output_in(tmp_path / "log"):
        assert sys.stderr is before
        print("said", file=sys.stderr)
    assert capsys.readouterr().err == "said\n"


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path):
    before = sys.stderr, os.fstat(2).st_ino
    with pytest.raises(OSError, match="No such file"), output_in(tmp_path / "missing" / "log"):
        pass
    assert (sys.stderr, os.fstat(2).st_ino) == before
