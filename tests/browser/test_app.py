"""The App of a run, as a person sees it."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from playwright.sync_api import Locator, Page, expect

from autolabel import Run, export, label
from autolabel.demo import write_photos

WORDS = ["cat", "motorcycle", "person", "cup", "rocket"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("browser")
    photos = write_photos(folder / "photos", ["cat", "motorcycle"])
    return label(photos, WORDS, out=folder / "browser run", conf_threshold=0.1)


def dataset_of(run: Run) -> Any:
    assert run.manifest.fiftyone is not None
    return fo.load_dataset(run.manifest.fiftyone.dataset)


def attribute(page: Page, name: str) -> Locator:
    """An attribute of the label that is being edited."""
    return page.locator(f"[data-cy=root_{name}_container]")


def wait_for_save(page: Page, action: Callable[[], None]) -> None:
    """Do what the App sends to its server at once."""
    with page.expect_response(lambda response: response.request.method == "PATCH") as answer:
        action()
    assert answer.value.ok


def test_the_app_opens_at_the_labels_of_low_confidence(
    run: Run, open_review: Callable[[Path], Page]
) -> None:
    page = open_review(run.folder)
    expect(page.locator("[data-cy=selector-dataset]")).to_have_value("browser run")
    expect(page.locator("[data-cy=saved-views-selection]")).to_have_text("needs review")
    expect(page.locator("[data-cy=looker]").first).to_be_visible()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(page.url.replace("127.0.0.1", "127.0.0.2"), timeout=5)


def test_labels_are_edited_in_the_annotate_tab_and_exported(
    run: Run, open_review: Callable[[Path], Page], tmp_path: Path
) -> None:
    """A class is changed, a label confirmed, one deleted; every other label stays as it was."""
    rows = run.rows()
    dataset = dataset_of(run)
    page = open_review(run.folder)
    page.locator("[data-cy=looker]").first.click()
    page.locator("[data-cy=annotate]").click()
    labels = page.locator("[data-cy^=annotate-label-]")
    expect(labels.first).to_be_visible()
    ids = [
        str(each.get_attribute("data-cy")).removeprefix("annotate-label-") for each in labels.all()
    ]
    renamed, confirmed, deleted = ids[0], ids[1], ids[2]
    sample = dataset[dataset.match_labels(ids=[renamed]).first().id]
    before = {each.id: each for each in sample.predictions.detections}
    assert len(ids) == len(before) > 3, "the tab lists all labels of the image"
    other = next(word for word in WORDS if word != before[renamed].label)

    def open_label(id: str) -> None:
        page.locator(f"[data-cy=annotate-label-{id}]").click()
        expect(attribute(page, "predicted")).to_contain_text(before[id].label)

    open_label(renamed)
    for name in ("predicted", "confidence", "margin", "presence", "runner_up", "run", "model"):
        expect(attribute(page, name)).to_be_visible()
        expect(attribute(page, name).locator("input")).to_have_count(0)
    attribute(page, "label").locator("input").click()
    expect(page.get_by_role("option")).to_have_text(WORDS)
    option = page.get_by_role("option", name=other, exact=True)
    wait_for_save(page, option.click)
    page.locator("[data-cy=annotate-edit-back]").click()
    open_label(confirmed)
    wait_for_save(page, attribute(page, "reviewed").get_by_role("checkbox").click)
    page.locator("[data-cy=annotate-edit-back]").click()
    open_label(deleted)
    page.locator("[data-cy=label-menu-trigger]").click()
    wait_for_save(page, page.get_by_text("Delete label").click)
    expect(page.locator(f"[data-cy=annotate-label-{deleted}]")).to_have_count(0)

    sample.reload(hard=True)
    after = {each.id: each for each in sample.predictions.detections}
    assert before.keys() - after.keys() == {deleted}
    assert after[renamed].label == other
    assert after[renamed].predicted == before[renamed].label
    assert after[confirmed].reviewed is True
    untouched = before.keys() - {renamed, confirmed, deleted}
    assert all(after[id].label == before[id].label for id in untouched)
    assert all(after[id].bounding_box == before[id].bounding_box for id in after)

    written = export(run, tmp_path / "all")
    assert written.annotations == len(rows) - 1
    only = export(run, tmp_path / "reviewed", only_reviewed=True)
    assert (only.images, only.annotations) == (1, 2)
    content = json.loads((tmp_path / "reviewed/labels.coco.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    found = {(names[each["category_id"]], "score" in each) for each in content["annotations"]}
    assert found == {(other, False), (before[confirmed].label, True)}
