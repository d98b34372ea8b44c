"""The App of a run, as a person sees it."""

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from autolabel import label
from autolabel.demo import write_photos


def test_the_app_opens_at_the_labels_of_low_confidence(
    tmp_path: Path, open_review: Callable[[Path], Page]
) -> None:
    photos = write_photos(tmp_path / "photos", ["cat", "motorcycle"])
    run = label(photos, ["cat", "motorcycle", "person"], out=tmp_path / "browser run")
    page = open_review(run.folder)
    expect(page.locator("[data-cy=selector-dataset]")).to_have_value("browser run")
    expect(page.locator("[data-cy=saved-views-selection]")).to_have_text("needs review")
    expect(page.locator("[data-cy=looker]").first).to_be_visible()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(page.url.replace("127.0.0.1", "127.0.0.2"), timeout=5)
