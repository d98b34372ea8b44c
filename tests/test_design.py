"""What docs/design.md says of packages, folders and imports is so."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs/design.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGES = ("regionspot", "integrations", "train", "autolabel")
MOST_FILES = {"regionspot": 16, "integrations/formats": 20}
MOST_FILES_ELSEWHERE = 13


def rows(first_cell: str) -> list[re.Match[str]]:
    """Rows of the design's tables whose first cell matches."""
    return list(re.finditer(rf"^\| `{first_cell}` \|(.*)\|(.*)\|$", DESIGN, re.MULTILINE))


def may_import(package: str) -> set[str]:
    """The packages that the design allows a package to import everywhere."""
    (row,) = rows(package)
    return set(re.findall(r"`(\w+)`", row[2].partition(";")[0])) & set(PACKAGES)


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.lineno, str(node.module)


def is_training_command(path: Path) -> bool:
    return path.parts[0] == "autolabel" and path.stem == "train"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_what_the_design_allows(package: str) -> None:
    allowed = may_import(package) | {package}
    wrong = []
    for path in files(package):
        extra = {"train"} if is_training_command(path.relative_to(ROOT)) else set()
        for line, module in imported_modules(path.read_text(encoding="utf-8")):
            name = module.split(".")[0]
            if name in {*PACKAGES, "tests"} - allowed - extra:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


def test_the_design_names_the_direction_of_all_packages() -> None:
    assert {package: may_import(package) for package in PACKAGES} == {
        "regionspot": set(),
        "integrations": {"regionspot"},
        "train": {"regionspot", "integrations"},
        "autolabel": {"regionspot", "integrations"},
    }
    assert is_training_command(Path("autolabel/cli/train.py"))
    assert (ROOT / "autolabel/cli/train.py").exists()
    assert not is_training_command(Path("autolabel/cli/run.py"))


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b, c\nfrom d.e import f\ndef h():\n    import i as j\n"
    assert sorted(imported_modules(source)) == [(1, "a.b"), (1, "c"), (2, "d.e"), (4, "i")]


def test_the_design_lists_every_folder() -> None:
    listed = {row[0].split("`")[1].rstrip("/") for row in folder_rows()}
    there = {str(path.parent.relative_to(ROOT)) for p in PACKAGES for path in files(p)}
    assert listed == there


def folder_rows() -> list[re.Match[str]]:
    return list(re.finditer(r"^\| `[a-z_/]+/` \|(.*)\|$", DESIGN, re.MULTILINE))


def test_no_folder_is_crowded() -> None:
    for package in PACKAGES:
        for folder in {path.parent for path in files(package)}:
            name = str(folder.relative_to(ROOT))
            count = sum(path.name != "__init__.py" for path in folder.glob("*.py"))
            assert count <= MOST_FILES.get(name, MOST_FILES_ELSEWHERE), f"{name}: {count} files"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_leads_back_up(package: str) -> None:
    """The graph of a package's folders, and of the files on its own level, has no cycle."""
    edges: dict[str, set[str]] = {}
    for path in files(package):
        node = node_of(path)
        for _, module in imported_modules(path.read_text(encoding="utf-8")):
            target = module_node(module)
            if target and target != node and target.startswith(f"{package}/"):
                edges.setdefault(node, set()).add(target)
    for start in edges:
        reached, todo = set(), list(edges[start])
        while todo:
            node = todo.pop()
            if node not in reached:
                reached.add(node)
                todo += edges.get(node, ())
        assert start not in reached, f"{start} is imported by what it imports: {sorted(reached)}"


def node_of(path: Path) -> str:
    """A file on the level of its package, or the folder of a deeper one."""
    relative = path.relative_to(ROOT)
    return str(relative if len(relative.parts) == 2 else relative.parent)


def module_node(module: str) -> str | None:
    path = ROOT / module.replace(".", "/")
    if path.is_dir():
        return node_of(path / "__init__.py")
    return node_of(path.with_suffix(".py")) if path.with_suffix(".py").exists() else None


def test_a_command_builds_the_towers_in_one_place() -> None:
    """Each file here is of one command, or is passed the encoder by it."""
    calls = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("= build_encoder(")
        for package in PACKAGES
        for path in files(package)
    }
    assert {name: count for name, count in calls.items() if count} == {
        "regionspot/model.py": 1,
        "train/run.py": 1,  # stage1, stage2, mini
        "train/features/extract.py": 2,  # experiments and fine-tuning; worker processes
    }


@pytest.mark.parametrize("document", [DESIGN, CONTRIBUTING])
def test_files_that_documents_name_exist(document: str) -> None:
    named = re.findall(rf"`((?:{'|'.join(PACKAGES)}|docs|tests)/[\w/]*[\w.]+)`", document)
    assert named
    for name in named:
        assert (ROOT / name).exists(), name
