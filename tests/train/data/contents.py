"""Contents of small label files, as JSON."""

from typing import Any

from tests.train.written import HEIGHT, WIDTH, annotation, coco, image


def two_photos() -> dict[str, Any]:
    """A person and a dog; a crowd; a second photo with a cup; a third with nothing."""
    return coco(
        [image(7), image(3, "sub/b.jpg"), image(9)],
        [
            annotation(1, 3, 47, (1, 2, 3, 4), iscrowd=0),
            annotation(2, 7, 1, iscrowd=0),
            annotation(3, 7, 18, (50, 40, 30, 30), iscrowd=0),
            annotation(4, 7, 47, iscrowd=1),
            annotation(5, 7, 47, maybe_crowd=1),
            annotation(6, 7, 47, (70, 50, 9, 9)),
        ],
        {1: "person", 18: "dog", 47: "cup", 90: "toothbrush"},
    )


def lvis(version: str) -> dict[str, Any]:
    names = {
        "v0.5": {"file_name": "COCO_val2014_000000000005.jpg"},
        "v1": {"coco_url": "http://images.cocodataset.org/val2017/000000000005.jpg"},
    }
    checked = {"neg_category_ids": [2, 4], "not_exhaustive_category_ids": [3]}
    return {
        "images": [{"id": 5, "width": WIDTH, "height": HEIGHT, **checked, **names[version]}],
        "annotations": [annotation(1, 5, 1), annotation(2, 5, 3, (0, 0, 9, 9))],
        "categories": [
            {"id": id, "name": name, "synset": f"{name}.n.01", "synonyms": [name, more], "def": "-"}
            for id, name, more in (
                (1, "bus_(vehicle)", "autobus"),
                (2, "dog", "hound"),
                (3, "cup", "mug"),
                (4, "bow_(weapon)", "bow"),
                (5, "bow_(decorative_ribbons)", "ribbon_bow"),
                (6, "zebra", "zebra"),
            )
        ],
    }
