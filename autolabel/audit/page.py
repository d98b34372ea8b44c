"""`audit.html`: the findings of an audit with crops, as one page that loads nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from autolabel.audit.audit import AUDIT, MISSING, PLACE, WORD, Audit, Suspect
from autolabel.draw.html import crop_uri, render_page
from autolabel.run.manifest import read_complete
from integrations.images import UnreadableImage, read_image
from regionspot.boxes import as_boxes, box_area, clip_boxes
from regionspot.files import atomic_write

PAGE = "audit.html"
CROPS = 120  # of a kind at most
KINDS = {
    WORD: ("Words that are likely wrong", "The label's word, and the likelier one."),
    PLACE: ("Boxes that are likely badly placed", "The box and the object's mask differ."),
    MISSING: ("Labels that are likely missing", "The model's word of a box without a label."),
}


def write_page(folder: Path, audit: Audit) -> Path:
    """Write `audit.html` into the run folder, with the most suspicious findings of each kind.

    Args:
        folder: of a complete run.
        audit: of its labels.

    Raises:
        InputError: there is no such run.
    """
    by_kind = {kind: [each for each in audit.suspects if each.kind == kind] for kind in KINDS}
    shown = [each for found in by_kind.values() for each in found[:CROPS]]
    crops = _crops(Path(read_complete(folder).dataset["root"]), shown)
    page = render_page(
        "audit.html",
        {},
        title=f"Audit of {folder.resolve().name}",
        images=audit.images,
        labels=audit.labels,
        csv=AUDIT,
        kinds=[
            (*KINDS[kind], len(found), [(each, crops.get(each, "")) for each in found[:CROPS]])
            for kind, found in by_kind.items()
            if found
        ],
    )
    path = folder / PAGE
    with atomic_write(path) as file:
        file.write(page)
    return path


def _crops(root: Path, suspects: Sequence[Suspect]) -> Mapping[Suspect, str]:
    """The crop of each finding whose image can be read, each image read once."""
    by_image: dict[str, list[Suspect]] = defaultdict(list)
    for each in suspects:
        by_image[each.file_name].append(each)
    crops: dict[Suspect, str] = {}
    for file_name, found in by_image.items():
        try:
            image = read_image(root / file_name)
        except UnreadableImage:
            continue
        height, width = image.shape[:2]
        for each in found:
            if box_area(clip_boxes(as_boxes([each.box]), width, height))[0] > 0:
                crops[each] = crop_uri(image, each.box)
    return crops
