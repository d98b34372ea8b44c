"""COCO, Objects365 v1 and v2, and V3Det: every class is annotated in every image.

The file is read once, whatever the order of its lists; segmentations are passed over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from integrations.annotations import Category
from integrations.formats.coco import GROUPS
from integrations.formats.json_stream import load_json, stream_records
from integrations.formats.record import Record
from integrations.formats.validation import check_new_id
from regionspot.errors import InputError
from regionspot.names import display_name
from train.data.box_table import BoxTable, BoxTableBuilder, BoxTableImages
from train.data.label_space import join_synonyms
from train.data.types import AnnotatedImage, ClassSynonyms, Dataset

INSTANCES, IMAGES = "instances.json", "images"
V3DET_TRAIN, V3DET_TREE = "v3det_2023_v1_train.json", "v3det_2023_v1_category_tree.json"
# What marks a box that is no single object, or one that is only suspected to be none.
CROWDS = ("iscrowd", "maybe_crowd")


def read_coco(path: Path, images: Path, name: str = "") -> Dataset:
    """COCO's instances JSON (cocodataset.org, "Data format", object detection).

    Crowds and suspected crowds (`maybe_crowd`) are no single objects and are left out. Their
    classes stay negatives of the other boxes of the image, each of which is known to be of its
    own class and no other: `verified` is None.

    Args:
        path: of the JSON.
        images: folder of the images.
        name: of the data set; empty: made of the path.

    Raises:
        InputError: the file cannot be read or does not hold together.
    """
    return _dataset(name or f"coco:{path}", read_boxes(path, images, display_name))


def read_objects365(path: Path, images: Path, name: str = "") -> Dataset:
    """Objects365's JSON, v1 or v2 (Shao et al. 2019; objects365.org).

    Left out beside crowds: what is a picture or a toy of the object (`isfake`) or a reflection of
    it (`isreflected`). Of a name like "Cabinet/shelf" the first part is the class and the others
    are its synonyms.

    Args, Raises: as `read_coco`.
    """
    left_out = (*CROWDS, "isfake", "isreflected")
    boxes = read_boxes(path, images, lambda name: _alternatives(name)[0], left_out)
    classes = join_synonyms(
        (_alternatives(each.name)[0], _alternatives(each.name)) for each in boxes.categories
    )
    return Dataset(name or f"objects365:{path}", classes, BoxTableImages(boxes.table))


def read_v3det(path: Path, images: Path, tree: Path, name: str = "") -> Dataset:
    """V3Det's JSON and its category tree (Wang et al. 2023, section 3; V3Det's README).

    Args:
        path: of the JSON.
        images: folder of the images.
        tree: the JSON of the category tree: `categoryid2treeid` and `ancestor2descendant`.
        name: of the data set; empty: made of the path.

    Raises:
        InputError: a file cannot be read or does not hold together.
    """
    boxes = read_boxes(path, images, display_name)
    class_of = {str(each.id): display_name(each.name) for each in boxes.categories}
    dataset = _dataset(name or f"v3det:{path}", boxes)
    return replace(dataset, ancestors=_ancestors(tree, class_of))


def load_coco(folder: Path) -> list[AnnotatedImage]:
    """All images with boxes of `folder/instances.json` and `folder/images`, at once.

    Raises:
        InputError: the file is not there or does not hold together.
    """
    return list(read_coco(folder / INSTANCES, folder / IMAGES).images)


def load_label_space(folder: Path) -> dict[str, tuple[str, ...]]:
    """All classes that `folder/instances.json` lists, used or not, each with its synonyms.

    Raises:
        InputError: the file is not there or does not hold together.
    """
    records = stream_records(folder / INSTANCES, {"categories"})
    return _classes([_category(record) for record in records])


@dataclass(frozen=True)
class CocoBoxes:
    """What training keeps of a COCO JSON.

    Attributes:
        categories: in the file's order.
        table: of the boxes, in the classes that they have.
    """

    categories: tuple[Category, ...]
    table: BoxTable

    @property
    def classes(self) -> ClassSynonyms:
        """The classes of all categories."""
        return _classes(self.categories)


def read_boxes(
    path: Path,
    folder: Path,
    class_of: Callable[[str], str],
    left_out: tuple[str, ...] = CROWDS,
    on_record: Callable[[Record], None] = lambda _: None,
) -> CocoBoxes:
    """Read the boxes of a COCO JSON, in memory that grows with their number alone.

    Args:
        path: of the JSON.
        folder: of the images.
        class_of: the class of a category's name.
        left_out: keys of an annotation; where one is true, its box is left out.
        on_record: is shown each image and annotation, also those left out.

    Raises:
        InputError: the file cannot be read or does not hold together; the message names the
            record.
    """
    builder = BoxTableBuilder(path, folder)
    categories: list[Category] = []
    seen: set[int] = set()
    # Categories may stand behind the annotations, so each id gets its index when it is first met.
    indices: dict[int, int] = {}
    for record in stream_records(path, GROUPS, required="images"):
        if record.group == "categories":
            categories.append(_category(record))
            check_new_id(categories[-1].id, seen, record.where)
            continue
        on_record(record)
        if record.group == "images":
            _add_image(builder, record)
        elif not any(record.values.get(key) for key in left_out):
            index = indices.setdefault(record.whole("category_id"), len(indices))
            builder.add_box(record.identifier("image_id"), index, record.xywh("bbox"))
    for unknown in indices.keys() - seen:
        raise InputError(
            f"{path}: a box has the category {unknown}, which is not among the categories; "
            "add the category or leave its boxes out"
        )
    name_of = {each.id: each.name for each in categories}
    return CocoBoxes(tuple(categories), builder.finish([class_of(name_of[id]) for id in indices]))


def _category(record: Record) -> Category:
    return Category(record.whole("id"), record.text("name"), record.texts("synonyms"))


def _add_image(builder: BoxTableBuilder, record: Record) -> None:
    # LVIS v1 names an image by its address alone, of which the last folder tells the split.
    address = "/".join(record.text("coco_url", "").split("/")[-2:])
    name = record.text("file_name", address or None)
    # LVIS v0.5 has names of COCO 2014, whose images it asks for under their names of 2017.
    if name.startswith("COCO_") and record.values.get("neg_category_ids") is not None:
        name = name.rsplit("_", 1)[-1]
    width, height = record.size("width"), record.size("height")
    if not width or not height:
        record.refuse(f'expected a "width" and a "height" in pixels, got {width} x {height}')
    builder.add_image(record.identifier("id"), name, width, height)


def _dataset(name: str, boxes: CocoBoxes) -> Dataset:
    return Dataset(name, boxes.classes, BoxTableImages(boxes.table))


def _classes(categories: Sequence[Category]) -> dict[str, tuple[str, ...]]:
    return join_synonyms(
        (display_name(each.name), [display_name(text) for text in each.synonyms])
        for each in categories
    )


def _alternatives(name: str) -> list[str]:
    parts = [display_name(part) for part in name.split("/")]
    return [part for part in parts if part] or [name]


def _ancestors(path: Path, class_of: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The ancestors of each class in V3Det's tree.

    Args:
        path: of the tree.
        class_of: the class of each category id, which the tree writes as a string.
    """
    content = load_json(path)
    try:
        class_at = {
            node: class_of[id]
            for id, node in content["categoryid2treeid"].items()
            if id in class_of
        }
        ancestors: dict[str, set[str]] = {}
        for ancestor, descendants in content["ancestor2descendant"].items():
            for node in descendants if ancestor in class_at else ():
                if node in class_at and class_at[node] != class_at[ancestor]:
                    ancestors.setdefault(class_at[node], set()).add(class_at[ancestor])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not V3Det's category tree with categoryid2treeid and "
            f"ancestor2descendant: {error!r}; it lies in the annotations of V3Det"
        ) from error
    return {name: frozenset(above) for name, above in ancestors.items()}
