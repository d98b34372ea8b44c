import os
import subprocess
import sys
from pathlib import Path

import pytest

from regionspot.errors import InputError
from regionspot.files import (
    atomic_folder,
    atomic_path,
    atomic_write,
    atomic_write_bytes,
    check_free,
    check_relative,
    free_output,
    is_utf8,
    path_inside,
    remove_leftovers,
)
from regionspot.process import machine_id


def test_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ä.json"
    with atomic_write(path) as file:
        file.write("ä\n")
        assert not path.exists()
    assert path.read_bytes() == "ä\n".encode()
    assert list(path.parent.iterdir()) == [path]


def fail(path: Path) -> None:
    with atomic_write_bytes(path) as file:
        file.write(b"new")
        raise RuntimeError


def test_failure_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "a.json", []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(path) as file:
        file.write("whole")
    (file_synced, named), (folder_synced, named_then) = synced
    assert file_synced.name.endswith(".part")
    assert not named
    assert (folder_synced, named_then) == (tmp_path, True)


def test_nothing_written_leaves_the_target_alone(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    with atomic_path(path):
        pass
    assert not path.exists()


def test_folder_lands_with_all_its_entries(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out", ["labels", "data.yaml"]) as folder:
        (folder / "labels").mkdir()
        (folder / "labels/a.txt").write_text("0")
        (folder / "data.yaml").write_text("names: [a]")
        assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data.yaml", "labels"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_replaces_its_entries_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    (out / "labels/old.txt").write_text("0")
    (out / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="--overwrite"), atomic_folder(out, ["labels"]):
        pass
    with atomic_folder(out, ["labels"], overwrite=True) as folder:
        (folder / "labels").mkdir()
    assert not list((out / "labels").iterdir())
    assert (out / "mine.txt").read_text() == "kept"


def test_folder_is_old_or_new_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever operation fails, what a reader finds is one of the two."""
    out = tmp_path / "out"
    old = {"labels/a.txt": "old", "data.yaml": "old", "mine/notes.txt": "kept"}
    new = {"labels/b.txt": "new", "data.yaml": "new", "mine/notes.txt": "kept"}

    def content() -> dict[str, str]:
        return {
            path.relative_to(out).as_posix(): path.read_text()
            for path in out.rglob("*")
            if path.is_file()
        }

    seen = []

    def watched(name: str) -> None:
        operation = getattr(os, name)

        def watch(*arguments: object, **options: object) -> object:
            seen.append(content())
            done = operation(*arguments, **options)
            seen.append(content())
            return done

        monkeypatch.setattr(os, name, watch)

    with atomic_folder(out, ["labels", "data.yaml"]) as folder:
        for name, text in old.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    for name in ("rename", "replace", "link", "unlink", "rmdir", "mkdir", "fsync"):
        watched(name)
    with atomic_folder(out, ["labels", "data.yaml"], overwrite=True) as folder:
        for name, text in new.items():
            if not name.startswith("mine"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text)
    monkeypatch.undo()
    assert content() == new
    assert all(each in (old, new) for each in seen)
    assert seen.index(new) > seen.index(old)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here, other_boot = machine_id(), machine_id()[:6] + "0" * 6
    dead = [f".autolabel-{here}-{ended.pid}-aa.part", f".autolabel-{other_boot}-1-aa.part"]
    alive = [f".autolabel-{here}-{os.getpid()}-aa.part", ".autolabel-ffffffffffff-1-aa.part"]
    for name in (*dead, *alive, "mine.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*alive, "mine.part"}


def test_output_of_a_killed_process_is_written_again(tmp_path: Path) -> None:
    """It was in its place, but the process had not ended; what another wrote is refused."""
    out = tmp_path / "labels.json"
    killed = "import os; from pathlib import Path; from regionspot.files import free_output\n"
    killed += f"with free_output(out := Path({str(out)!r})): out.touch(); os._exit(9)"
    subprocess.run([sys.executable, "-c", killed], check=False)
    (tmp_path / "mine.json").touch()
    with pytest.raises(InputError, match=r"mine\.json is there already"):
        check_free(tmp_path / "mine.json")
    with free_output(out):
        out.write_text("{}")
    assert {path.name for path in tmp_path.iterdir()} == {"labels.json", "mine.json"}
    with pytest.raises(InputError, match="is there already"):
        check_free(out)


def test_output_whose_writer_failed_is_free_if_it_was_written(tmp_path: Path) -> None:
    def write(out: Path, place: Path) -> None:
        with free_output(out):
            place.touch()
            raise OSError("no room")

    for out, place in ((tmp_path / "a", tmp_path / "a"), (tmp_path / "b", tmp_path / "part")):
        with pytest.raises(OSError, match="no room"):
            write(out, place)
        check_free(out)
    assert [path.suffix for path in tmp_path.glob(".autolabel-*")] == [".unfinished"]


def test_a_process_that_got_the_number_of_an_ended_one_holds_nothing(tmp_path: Path) -> None:
    left = tmp_path / f".autolabel-{machine_id()}-{os.getpid()}-aa.part"
    left.touch()
    os.utime(left, (0, 0))  # long before this process began
    remove_leftovers(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize(
    "name", ["a.jpg", "a b/ñ.jpg", "...", "a..b/c", ".hidden", "a\\b.jpg", "1:30.jpg"]
)
def test_names_that_stay(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["", "/a", "//a", "..", "a/../b", "\\a", "c:\\a", "c:/a", "a\0", "a\\..\\b", "\udce9"]
)
def test_names_that_do_not_stay(name: str) -> None:
    with pytest.raises(InputError):
        check_relative(name)


def test_links_are_followed_before_judging(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "out").mkdir()
    (inside / "away").symlink_to(tmp_path / "out")
    (inside / "here").symlink_to(inside)
    assert path_inside(inside, "here/a.jpg") == inside / "here/a.jpg"
    for name in ("away/a.jpg", "away"):
        with pytest.raises(InputError, match="by a link to a folder"):
            path_inside(inside, name)


def test_a_file_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "in/a.jpg").symlink_to(tmp_path / "photo.jpg")
    assert path_inside(tmp_path / "in", "a.jpg") == tmp_path / "in/a.jpg"


def test_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert path_inside(tmp_path / "link", "a.jpg")


def test_utf8() -> None:
    assert is_utf8("ñ")
    assert not is_utf8("\udce9")
