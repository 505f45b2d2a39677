"""python -m scripts.prepare_srn: archives become packed sets or folders; hostile ones are refused."""

import errno
import fcntl
import io
import os
import re
import stat
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from data.formats.packed.file import PackedFile
from data.formats.packed.objects import open_packed
from data.formats.registry import open_raw
from data.formats.srn import archives
from scripts.pack import main as pack_main
from scripts.packing.lock import sole_packer
from scripts.prepare_srn import main


@pytest.fixture
def root(tmp_path, plant_object) -> Path:
    for name, num_views in (("cars_train/a", 4), ("cars_train/bb", 3), ("cars_val/ccc", 2)):
        plant_object(tmp_path / "set" / name, num_views=num_views)
    return tmp_path / "set"


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def make_zip(path: Path, files: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def under(top: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{top}{name}": content for name, content in files.items()}


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def assert_packed(output: Path, root: Path) -> None:
    """The output holds what the folders hold, and nothing else."""
    for split in ("train", "val"):
        one, other = open_raw(root, split), open_packed(output, split)
        assert one.ids == other.ids
        for index in range(len(one)):
            assert one.names(index) == other.names(index)
            assert all(map(torch.equal, one.cameras(index), other.cameras(index)))
            for view in range(one.num_views(index)):
                assert torch.equal(one.picture(index, view), other.picture(index, view))
    assert sorted(path.name for path in output.iterdir()) == ["train.safetensors", "val.safetensors"]


def test_the_published_archives_are_packed_as_their_folders_would_be(root, output, tmp_path, capsys):
    given = []
    for split in ("cars_train", "cars_val"):
        files = under(f"{split}/", contents(root / split))
        given.append(make_zip(tmp_path / f"{split}.zip", files))
    assert run(*given, "--output", output) == 0
    assert_packed(output, root)
    assert f"data.root={output}" in capsys.readouterr().out


LAYOUTS = {
    "no folder above": lambda split, files: files,
    "a folder above": lambda split, files: under(f"ShapeNet/{split}/", files),
    "folders above and between": lambda split, files: under(f"./data/v1/{split}/more/", files),
    "another folder above": lambda split, files: under("download/", files),
    "from a Mac": lambda split, files: under(f"{split}/", files)
    | under(f"__MACOSX/{split}/", {re.sub(r"([^/]+)$", r"._\1", n): b"\0\5" for n in files})
    | {f"{split}/.DS_Store": b"x", f"{split}/a/.DS_Store": b"x"},
    "from Windows": lambda split, files: {
        n.replace("/", "\\"): c for n, c in under(f"{split}/", files).items()
    },
    "with other files": lambda split, files: under(f"{split}/", files)
    | {"README.txt": b"", f"{split}/list.lst": b""},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_archives_are_understood_however_they_were_made(layout, root, output, tmp_path):
    given = []
    for split in ("cars_train", "cars_val"):
        files = LAYOUTS[layout](split, contents(root / split))
        given.append(make_zip(tmp_path / f"{split}.zip", files))
    assert run(*given, "--output", output) == 0
    assert open_packed(output, "train").ids == ("a", "bb")
    assert open_packed(output, "val").ids == ("ccc",)
    found, expected = open_packed(output, "train"), open_raw(root, "train")
    assert torch.equal(found.picture(1, 2), expected.picture(1, 2))


@pytest.mark.parametrize(
    ("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tbz2", "w:bz2"), ("tar.xz", "w:xz")]
)
def test_tar_files_are_read_too(suffix, mode, root, output, tmp_path):
    given = [
        make_tar(tmp_path / f"{split}.{suffix}", under("./", contents(root / split)), mode)
        for split in ("cars_train", "cars_val")
    ]
    assert run(*given, "--output", output) == 0
    assert open_packed(output, "train").ids == ("a", "bb")
    assert run("--output", output.with_name("again"), root / "cars_train", root / "cars_val") == 0
    assert (output / "train.safetensors").read_bytes() == (
        output.with_name("again") / "train.safetensors"
    ).read_bytes()


def test_one_archive_or_folder_may_hold_all_splits(root, output, tmp_path):
    assert run(make_zip(tmp_path / "srn.zip", contents(root)), "--output", output) == 0
    assert_packed(output, root)
    assert run(root, "--output", tmp_path / "again") == 0
    assert_packed(tmp_path / "again", root)


def test_training_objects_alone_are_divided_as_their_folder_would_be(root, output, tmp_path):
    given = make_zip(tmp_path / "cars_train.zip", contents(root / "cars_train"))
    assert run(given, "--output", output) == 0
    alone = tmp_path / "alone"
    (root / "cars_train").rename(alone)
    assert open_packed(output, "train").ids == open_raw(alone, "train").ids
    assert open_packed(output, "val").ids == open_raw(alone, "val").ids


def test_held_out_objects_alone_are_enough(root, output, tmp_path):
    given = make_zip(tmp_path / "cars_test.zip", contents(root / "cars_train"))
    assert run(given, "--output", output) == 0
    assert sorted(path.name for path in output.iterdir()) == ["test.safetensors"]


def test_archives_are_unpacked_into_folders_on_demand(root, output, tmp_path):
    given = make_zip(tmp_path / "srn.zip", under("top/", contents(root)))
    assert run(given, "--output", output, "--unpack") == 0
    assert contents(output) == contents(root)
    assert sorted(path.name for path in output.iterdir()) == ["cars_train", "cars_val"]


def test_unpacking_completes_what_was_begun(root, output, tmp_path):
    given = make_zip(tmp_path / "srn.zip", contents(root))
    assert run(given, "--output", output, "--unpack") == 0
    (output / "cars_train/a/mine.txt").write_text("mine")
    (output / "cars_train/bb").rename(tmp_path / "gone")
    assert run(given, "--output", output, "--unpack") == 0
    assert contents(output) == contents(root) | {"cars_train/a/mine.txt": b"mine"}


def test_unpacking_neither_keeps_nor_overwrites_other_contents_silently(root, output, tmp_path, capsys):
    given = make_zip(tmp_path / "srn.zip", contents(root))
    assert run(given, "--output", output, "--unpack") == 0
    changed = output / "cars_train/a/rgb/000001.png"
    for content in (b"mine", changed.read_bytes()[:-1] + b"x"):
        changed.write_bytes(content)
        assert run(given, "--output", output, "--unpack") == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"{output / 'cars_train/a'}: exists already with other contents" in error
        assert changed.read_bytes() == content


def test_what_a_killed_run_left_is_removed_and_two_at_once_are_refused(root, output, tmp_path, capsys):
    given = make_zip(tmp_path / "srn.zip", contents(root))
    (output / ".unpacked-abc").mkdir(parents=True)
    (output / ".unpacked-abc/big.tar").write_bytes(b"x")
    with sole_packer(output):
        for program, source in ((main, given), (pack_main, root)):
            assert program([str(source), "--output", str(output)]) == 2
            error = capsys.readouterr().err
            assert f"--output {output}: another process packs there" in error
            assert error.count("\n") == 1
    assert (output / ".unpacked-abc/big.tar").exists()  # it may be the other's
    assert run(given, "--output", output) == 0
    assert_packed(output, root)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_packs_all_the_same(number, root, output, monkeypatch):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert pack_main([str(root), "--output", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {"train.safetensors", "val.safetensors"}


def test_an_output_that_cannot_be_written_is_one_line(root, output, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(output))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert pack_main([str(root), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot write {output}: Read-only file system" in error


def damaged(root: Path, name: str, content: bytes | None) -> dict[str, bytes]:
    files = contents(root)
    if content is None:
        del files[name]
        return files
    return files | {name: content}


FAULTS = {
    "cars_train/bb/pose/000001.txt": (None, r"rgb/000001.png: has no pose"),
    "cars_train/bb/rgb/000002.png": (None, r"pose/000002.txt: has no picture"),
    "cars_train/a/rgb/000000.png": (b"PNG", r"rgb/000000.png: not a readable image"),
    "cars_train/a/pose/000003.txt": (
        b"2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1",
        r"pose/000003.txt: the pose is scaled",
    ),
    "cars_train/a/intrinsics.txt": (None, r"intrinsics.txt: missing"),
    "cars_val/ccc/intrinsics.txt": (b"1 2", r"intrinsics.txt: neither"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_inside_an_archive_are_named_by_its_own_names(name, root, output, tmp_path, capsys):
    content, expected = FAULTS[name]
    given = make_zip(tmp_path / "srn.zip", damaged(root, name, content))
    assert run(given, "--output", output) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        rf"\Aprepare_srn: {given}: {name.rsplit('/', 2)[0].replace('/pose', '')}.*{expected}", error
    ), error
    assert ".unpacked" not in error


def test_bad_objects_are_left_out_on_demand(root, output, tmp_path, capsys):
    given = make_zip(tmp_path / "srn.zip", damaged(root, "cars_train/a/rgb/000000.png", b""))
    assert run(given, "--output", output, "--skip-bad") == 0
    assert PackedFile(output / "train.safetensors").index.left_out == ("a",)
    assert "a: " in capsys.readouterr().err


def hostile(path: Path, name: str, content: bytes = b"x", **changes) -> Path:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo(name)
        for key, value in changes.items():
            setattr(entry, key, value)
        entry.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(entry, content)
    return path


LINK = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"name": "../evil/rgb/000000.png"}, "leads out of the folder"),
        ({"name": "cars_train/a/rgb/../../../../x.png"}, "leads out of the folder"),
        ({"name": "/etc/rgb/passwd"}, "leads out of the folder"),
        ({"name": "C:\\x\\rgb\\000000.png"}, "leads out of the folder"),
        ({"name": "..\\..\\x.txt"}, "leads out of the folder"),
        ({"name": "../"}, "leads out of the folder"),
        (
            {"name": "cars_train/a/rgb/000009.png", "external_attr": LINK, "content": b"/etc/passwd"},
            "is a link",
        ),
        ({"name": "cars_train/a/rgb/000009.png", "content": bytes(2 * 2**20)}, "more than any image"),
    ],
)
def test_hostile_zip_files_are_refused(entry, problem, root, output, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 2**20)
    given = hostile(make_zip(tmp_path / "srn.zip", contents(root)), **entry)
    for more in ([], ["--unpack"]):
        assert run(given, "--output", output, *more) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith(f"prepare_srn: {given}: ")
        assert problem in error
        assert not list(output.rglob("*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set", "srn.zip"]


def test_an_encrypted_entry_is_refused(root, output, tmp_path, capsys):
    given = make_zip(tmp_path / "srn.zip", contents(root))
    content = bytearray(given.read_bytes())
    at = content.index(b"PK\x01\x02")  # the first entry of the list at the end
    content[at + 8] |= 1
    given.write_bytes(content)
    assert run(given, "--output", output) == 2
    assert "is encrypted" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_bombs_are_refused_before_they_go_off(kind, root, output, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives, "ANYWAY_BYTES", 2**16)
    monkeypatch.setattr(archives, "MOST_GROWTH", 3)
    files = contents(root) | {f"cars_train/a/rgb/{i:06d}.png": bytes(2**16) for i in range(10, 30)}
    make = make_zip if kind == "zip" else lambda path, files: make_tar(path, files, "w:gz")
    given = make(tmp_path / f"srn.{kind}", files)
    assert run(given, "--output", output) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unpacks to over 3 times its size" in error


def test_links_and_devices_in_tar_files_are_refused(root, output, tmp_path, capsys):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        given = make_tar(tmp_path / "srn.tar", contents(root))
        with tarfile.open(given, "a") as file:
            entry = tarfile.TarInfo("cars_train/a/rgb/000009.png")
            entry.type, entry.linkname = kind, "/etc/passwd"
            file.addfile(entry)
        assert run(given, "--output", output) == 2
        assert "is a link or not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_truncated_archives_are_one_line(kind, cut, root, output, tmp_path, capsys):
    files = contents(root)
    if kind == "zip":
        given = make_zip(tmp_path / "srn.zip", files)
    else:
        given = make_tar(tmp_path / f"srn.{kind}", files, "w:gz" if kind == "tar.gz" else "w")
    given.write_bytes(given.read_bytes()[: int(cut * given.stat().st_size)])
    if kind == "tar" and cut == 0.9:  # the padding at its end alone
        given.write_bytes(given.read_bytes()[: 512 * 3 + 7])
    assert run(given, "--output", output) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line and "object/s" not in line]
    assert len(error) == 1
    assert str(given) in error[0]


def test_an_object_that_is_given_twice_is_refused(root, output, tmp_path, capsys):
    one = make_zip(tmp_path / "cars_train.zip", contents(root / "cars_train"))
    two = make_tar(tmp_path / "cars_train.tar", contents(root / "cars_train"))
    assert run(one, two, "--output", output) == 2
    assert "give each object once" in capsys.readouterr().err


def test_compressed_tars_of_one_name_are_kept_apart(root, output, tmp_path):
    given = [
        make_tar(tmp_path / "cars_train.tar.gz", contents(root / "cars_train"), "w:gz"),
        make_tar(tmp_path / "cars_train.tgz", contents(root / "cars_val"), "w:gz"),
    ]
    members = archives.list_members(given, tmp_path / "scratch")
    files = contents(root / "cars_train") | contents(root / "cars_val")
    assert {member.place.removeprefix("cars_train/"): member.read() for member in members} == files


def test_a_full_disk_is_not_blamed_on_the_archive(root, output, tmp_path, capsys):
    given = make_tar(tmp_path / "cars_train.tgz", contents(root / "cars_train"), "w:gz")

    class Full(io.BytesIO):
        def write(self, block):
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "open", lambda handle, mode: Full(), raising=False)
        assert run(given, "--output", output) == 2
    error = capsys.readouterr().err
    assert f"{given}: cannot be expanded into {output}" in error
    assert "No space left on device" in error


def test_the_innermost_folder_decides_the_split(root, output, tmp_path):
    given = make_zip(tmp_path / "x.zip", under("cars_train_val_test/", contents(root)))
    assert run(given, "--output", output) == 0
    assert_packed(output, root)


def test_linked_folders_are_followed_but_not_in_circles(root, output, tmp_path):
    (root / "cars_train/bb").rename(tmp_path / "elsewhere")
    (root / "cars_train/bb").symlink_to(tmp_path / "elsewhere")
    (root / "cars_train/circle").symlink_to(root)
    assert run(root, "--output", output) == 0
    assert open_packed(output, "train").ids == ("a", "bb")


def test_a_zip_file_that_lies_about_a_size_does_not_fill_the_memory(root, tmp_path):
    honest = make_zip(tmp_path / "srn.zip", {"cars_train/a/rgb/0.png": bytes(2**25)}).read_bytes()
    given = tmp_path / "lie.zip"
    given.write_bytes(honest.replace((2**25).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    (member,) = archives.list_members([given], tmp_path)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"\A[^\n]*0.png cannot be read[^\n]*\Z"):
        member.read()
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_tar_file_with_a_negative_size_is_refused(tmp_path):
    entry = bytearray(tarfile.TarInfo("a/rgb/0.png").tobuf(tarfile.GNU_FORMAT))
    entry[124:136] = (-512).to_bytes(12, "big", signed=True)
    entry[148:156] = b" " * 8
    entry[148:156] = b"%06o\0 " % sum(entry[:512])
    given = tmp_path / "n_train.tar"
    given.write_bytes(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT) + bytes(entry) + bytes(1024))
    with pytest.raises(
        ValueError, match=r"\A[^\n]*n_train.tar: [^\n]*(an invalid size|not a readable)[^\n]*\Z"
    ):
        archives.list_members([given], tmp_path)


def test_a_zip_file_with_names_that_are_no_text_is_one_line(tmp_path):
    given = make_zip(tmp_path / "u_train.zip", {"\xe9/rgb/0.png": b"x"})
    given.write_bytes(given.read_bytes().replace("\xe9".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match=r"\A[^\n]*u_train.zip: not a readable zip[^\n]*\Z"):
        archives.list_members([given], tmp_path)


def test_an_archive_that_may_not_be_read_is_not_called_unwritable(
    root, output, tmp_path, capsys, monkeypatch
):
    given = make_zip(tmp_path / "srn.zip", contents(root))
    original = Path.open

    def guarded(path, *arguments, **options):
        if path == given:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    assert run(given, "--output", output) == 2
    assert f"{given}: cannot be read (Permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["{tmp}/nothing.zip", "--output", "x"], "no such file"),
        (["{tmp}/text.zip", "--output", "x"], "not a readable zip or tar file"),
        (["{tmp}/empty.zip", "--output", "x"], "no objects"),
        (["{tmp}/lone.zip", "--output", "x"], "single object"),
        (["{tmp}/lone.zip", "--output", "x", "--unpack", "--image-size", "3"], "--unpack"),
        (["{tmp}/lone.zip", "--output", "x", "--workers", "0"], "--workers"),
        (["{tmp}/half.zip", "--output", "x"], "has no pose/"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, named, root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.zip").write_text("no archive at all\n" * 99)
    make_zip(tmp_path / "empty.zip", {"README": b""})
    make_zip(tmp_path / "lone.zip", contents(root / "cars_train/a"))
    make_zip(tmp_path / "half.zip", {n: c for n, c in contents(root).items() if "a/pose" not in n})
    assert main([word.format(tmp=tmp_path) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("prepare_srn: ")
    assert named in error
    assert ".unpacked" not in error


def test_help_teaches_and_the_output_is_required(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "examples:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["cars_train.zip"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
