"""Which package may import which; an arrow the other way fails here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "regionspot": set(),
    "integrations": {"regionspot"},
    "train": {"regionspot", "integrations"},
    "autolabel": {"regionspot", "integrations"},
}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, str(node.module).split(".")[0]


def allowed(path: Path) -> set[str]:
    package = path.relative_to(ROOT).parts[0]
    # Only the command that trains needs training.
    extra = {"train"} if package == "autolabel" and path.stem == "train" else set()
    return MAY_IMPORT[package] | {package} | extra


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    ours = {*MAY_IMPORT, "tests"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for line, name in imported(path.read_text(encoding="utf-8"))
        if name in ours - allowed(path)
    ]
    assert not wrong


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b, c\nfrom d.e import f\nfrom . import g\ndef h():\n    import i as j\n"
    assert sorted(imported(source)) == [(1, "a"), (1, "c"), (2, "d"), (5, "i")]


def test_only_the_training_command_may_import_train() -> None:
    assert "train" in allowed(ROOT / "autolabel/commands/train.py")
    assert "train" not in allowed(ROOT / "autolabel/commands/run.py")
    assert "train" not in allowed(ROOT / "integrations/train.py")
