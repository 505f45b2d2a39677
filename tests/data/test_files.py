"""Files and folders that appear whole or not at all."""

import errno

import pytest

from data.files import TemporaryError, first_line, is_temporary, whole_folder, write_synced, write_whole


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("write", [write_whole, write_synced])
def test_a_write_that_fails_for_any_reason_leaves_what_was_there(write, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise KeyError("not an error of the disk")

    with pytest.raises(KeyError):
        write(path, fail)
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "old")
    write(path, lambda partial: partial.write_text("new"))
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "new")


def test_a_folder_appears_when_it_is_complete_and_without_what_an_interrupted_attempt_left(tmp_path):
    folder = tmp_path / "below" / "a"
    with pytest.raises(FileNotFoundError), whole_folder(folder) as unfinished:
        (unfinished / "half" / "no folder" / "a").mkdir()
    assert not folder.exists()
    with whole_folder(folder) as unfinished:
        (unfinished / "whole").touch()
        assert not folder.exists()
    assert (names(folder), names(folder.parent)) == (["whole"], ["a"])


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (ValueError("\n one\n"), "one"), (MemoryError(), "MemoryError")],
)
def test_an_error_has_one_line(error, line):
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (TimeoutError("timed out"), True),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset"), True),
        (TemporaryError("a process was killed"), True),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError("image file is truncated"), False),
        (ValueError("a wrong key"), False),
        (RuntimeError("a bug"), False),
    ],
)
def test_an_error_may_pass_by_itself_if_it_or_what_caused_it_may(error, temporary):
    assert is_temporary(error) is temporary
    with pytest.raises(ValueError, match="file x") as wrapped:
        raise ValueError("file x") from error
    assert is_temporary(wrapped.value) is temporary
