from pathlib import Path

import pytest

from integrations.paths import check_relative, is_utf8, path_inside
from regionspot.errors import InputError


@pytest.mark.parametrize("name", ["a.jpg", "a b/ñ.jpg", "...", "a..b/c", ".hidden", "a\\b.jpg"])
def test_names_that_stay(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["", "/a", "//a", "..", "a/../b", "\\a", "C:a", "c:/a", "a\0", "a\\..\\b", "\udce9"]
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
