"""The log of a process: one JSON object a line on stderr, whatever wrote it."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest


def logged(program: str, ci: str = "false") -> list[dict[str, Any]]:
    """What a process of its own logs that runs this after it has begun to log as JSON."""
    begun = f"from holdfast import logs\nlogs.as_json('INFO')\n{program}"
    command = [sys.executable, "-W", "always", "-c", begun]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CI": ci})
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_record_is_a_line_with_its_fields_and_its_traceback() -> None:
    first, second = logged(
        "import logging\nlog = logging.getLogger('a.b')\nlog.info('two\\nlines %d', 7, extra={'job': 'j'})\n"
        "try: 1 / 0\nexcept ZeroDivisionError: log.exception('failed')"
    )
    assert (first["level"], first["logger"], first["message"], first["job"]) == ("INFO", "a.b", "two\nlines 7", "j")
    assert (second["level"], second["message"]) == ("ERROR", "failed")
    assert "ZeroDivisionError" in second["traceback"]


def test_a_warning_is_a_record() -> None:
    (line,) = logged("import warnings\nwarnings.warn('old', FutureWarning)")
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "FutureWarning: old" in line["message"]


def test_what_is_printed_is_logged_line_by_line() -> None:
    lines = logged("import sys\nprint('a', 1)\nprint('b', end='')\nprint('c\\n\\nd')\nsys.stderr.write('e\\n')")
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("stdout", "a 1"), ("stdout", "bc"), ("stdout", "d"), ("stderr", "e")
    ]  # fmt: skip


def test_a_progress_bar_is_logged_by_its_last_state() -> None:
    lines = logged("from tqdm import tqdm\nfor _ in tqdm(range(40), mininterval=0): pass")
    assert [line["message"].split("|")[0] for line in lines] == ["100%"]


def test_an_exception_that_nobody_catches_is_logged() -> None:
    lines = logged("raise KeyError('k')")
    assert lines[-1]["message"] == "KeyError: 'k'"


@pytest.mark.parametrize(("gathered", "ci"), [(False, "false"), (True, "false"), (True, "true")])
def test_a_library_with_a_handler_of_its_own_logs_in_lines_like_all_others(gathered: bool, ci: str) -> None:
    # transformers hands its records to its own handler alone, but where CI=true to the root's too
    (line,) = logged(
        "from transformers.utils import logging\nlog = logging.get_logger('transformers.models')\n"
        + "logs.gather()\n" * gathered
        + "log.warning('a library speaks')",
        ci,
    )
    assert line["level"] == "WARNING"
    assert line["message"].endswith("a library speaks")
    assert line["logger"] == ("transformers.models" if gathered else "stderr")


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    program = "from holdfast import logs\nlogs.as_json('INFO')\nprint('lost')\nimport os\nos.write(1, b'lived')"
    command = f'exec 2>&-; exec {sys.executable} -c "$0" 2>/dev/full'
    done = subprocess.run(["bash", "-c", command, program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("lived", 0)
