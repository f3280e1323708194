import io
import os
from pathlib import Path

import pytest

from crewd.host.journal import leads_to_journal


def test_a_stream_is_the_journals_when_device_and_inode_agree(tmp_path: Path) -> None:
    with open(tmp_path / "stream", "w") as stream:
        seen = os.fstat(stream.fileno())
        assert leads_to_journal(stream, f"{seen.st_dev}:{seen.st_ino}")
        assert not leads_to_journal(stream, f"{seen.st_dev}:{seen.st_ino + 1}")


@pytest.mark.parametrize("variable", ["", "8:1", "nonsense"])
def test_a_stream_that_is_no_file_is_not_the_journals(variable: str) -> None:
    assert not leads_to_journal(io.StringIO(), variable)
