"""COCO, LVIS v0.5 and v1, Objects365 v1 and v2, and V3Det.

In an image of LVIS some classes only are annotated, in those of the others all.

The file is read once, whatever the order of its lists; segmentations are passed over where there is
a box. Classes are called as the file names them; in what each data set differs, its reader says.
What a reader mends or leaves out it counts in the tally that it is given; nothing but a blemish of
one record is. A file that does not hold together, or has no box to train on, is an InputError.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from integrations.annotations import (
    Category,
    LabelledImage,
    Tally,
    class_labels,
    without_unused_twins,
)
from integrations.formats.coco import GROUPS, VERIFIED_KEYS, check_federated, image_name
from integrations.formats.coco_annotations import read_annotation
from integrations.formats.json_stream import load_json, stream_records
from integrations.formats.record import Record
from integrations.formats.validation import check_new_id
from integrations.images import UnreadableImage, image_size
from regionspot.boxes import xyxy_to_xywh
from regionspot.errors import InputError
from regionspot.names import clean_name, display_name, distinct_names, without_underscores
from train.data.box_table import BoxTable, BoxTableBuilder, BoxTableImages, PathsInside
from train.data.dataset import AnnotatedImage, ClassSynonyms, Dataset, join_synonyms, names_of
from train.data.verified_classes import VerifiedClasses

INSTANCES, IMAGES = "instances.json", "images"
V3DET_TRAIN, V3DET_TREE = "v3det_2023_v1_train.json", "v3det_2023_v1_category_tree.json"
# Keys of a box that is no single object, or only suspected to be none, and what it is called.
CROWDS = {"iscrowd": "crowd region", "maybe_crowd": "suspected crowd region"}
NO_OBJECTS = {"isfake": "depiction of an object", "isreflected": "reflection of an object"}
# Keys of an annotation that may hold the angle of its box.
ANGLES = ("rotation", "attributes")


def read_coco(path: Path, images: Path, name: str = "", tally: Tally | None = None) -> Dataset:
    """COCO's instances JSON (cocodataset.org, "Data format", object detection), or LVIS's as one.

    Crowds and suspected crowds (`maybe_crowd`) are no single objects and are left out. Their
    classes stay negatives of the other boxes of the image, each of which is known to be of its
    own class and no other: `verified` is None.

    Args:
        path: of the JSON.
        images: folder of the images.
        name: of the data set; empty: made of the path.
        tally: counts what is mended and left out; None: a new one.

    Raises:
        InputError: the file cannot be read or does not hold together, or has no box to train on.
    """
    return dataset_of(name or f"coco:{path}", read_boxes(path, images, tally))


def read_lvis(path: Path, images: Path, name: str = "", tally: Tally | None = None) -> Dataset:
    """An LVIS JSON, v0.5 or v1 (lvisdataset.org, "Data format").

    `verified` holds the classes that an image has all boxes of, and those that it is verified not
    to hold. Classes in `not_exhaustive_category_ids`, and those of crowds, are no negatives, for
    there may be more of them than is boxed. `bus_(vehicle)` is called "bus"; where two categories
    would be called alike (`bow_(weapon)`, `bow_(decorative_ribbons)`), the brackets stay.

    Args:
        path: of the JSON.
        images: folder of the images, or of the folders `train2017` and `val2017` with them.
        name: of the data set; empty: made of the path.
        tally: counts what is mended and left out; None: a new one.

    Raises:
        InputError: as `read_coco`, or the file does not say what was verified.
    """
    verified = VerifiedClasses(path, tally=tally)

    def on_record(record: Record) -> None:
        if record.group == "annotations":
            is_crowd = any(record.values.get(key) for key in CROWDS)
            kind = verified.OPEN if is_crowd else verified.BOXED
            verified.add(record.identifier("image_id"), record.whole("category_id"), kind)
            return
        check_federated(record)
        image = record.identifier("id")
        for key, kind in zip(VERIFIED_KEYS, (verified.ABSENT, verified.OPEN), strict=True):
            for category in record.wholes(key):
                verified.add(image, category, kind)

    boxes = read_boxes(path, images, tally, on_record=on_record)
    verified.finish(boxes.class_of)
    return dataset_of(name or f"lvis:{path}", boxes, verified)


def read_objects365(
    path: Path, images: Path, name: str = "", tally: Tally | None = None
) -> Dataset:
    """Objects365's JSON, v1 or v2 (Shao et al. 2019; objects365.org).

    Left out beside crowds: what is a picture or a toy of the object (`isfake`) or a reflection of
    it (`isreflected`). Of a name like "Cabinet/shelf" the first part is the class, unless it is the
    name of another one too, and the others are its synonyms.

    Args, Raises: as `read_coco`.
    """
    forms = (lambda name: _alternatives(name)[0],)
    boxes = read_boxes(path, images, tally, CROWDS | NO_OBJECTS, forms=forms)
    classes = join_synonyms(
        (boxes.class_of[each.id], [text for text in _alternatives(each.name)[1:] if text])
        for each in boxes.categories
    )
    return replace(dataset_of(name or f"objects365:{path}", boxes), classes=classes)


def read_v3det(
    path: Path, images: Path, tree: Path, name: str = "", tally: Tally | None = None
) -> Dataset:
    """V3Det's JSON and its category tree (Wang et al. 2023, section 3; V3Det's README).

    Args:
        path: of the JSON.
        images: folder of the images.
        tree: the JSON of the category tree: `categoryid2treeid` and `ancestor2descendant`.
        name: of the data set; empty: made of the path.
        tally: counts what is mended and left out; None: a new one.

    Raises:
        InputError: as `read_coco`, also of the tree.
    """
    boxes = read_boxes(path, images, tally)
    class_of = {str(id): name for id, name in boxes.class_of.items()}
    return replace(dataset_of(name or f"v3det:{path}", boxes), ancestors=_ancestors(tree, class_of))


def read_folder(folder: Path, tally: Tally | None = None) -> Dataset:
    """`folder/instances.json` with the images of `folder/images`; as `read_coco`."""
    return read_coco(folder / INSTANCES, folder / IMAGES, tally=tally)


def load_coco(
    folder: Path, limit: int | None = None, tally: Tally | None = None
) -> list[AnnotatedImage]:
    """All images with boxes of `read_folder`, or the first of them, at once."""
    return list(read_folder(folder, tally).images[:limit])


@dataclass(frozen=True)
class CocoBoxes:
    """What training keeps of a COCO JSON.

    Attributes:
        categories: in the file's order.
        class_of: the class of each category id, as `class_names` gives it.
        table: of the boxes, in the classes that they have.
    """

    categories: tuple[Category, ...]
    class_of: Mapping[int, str]
    table: BoxTable

    @property
    def classes(self) -> ClassSynonyms:
        """The classes of all categories, with their synonyms."""
        form = display_name if _has_senses(self.categories) else str
        return join_synonyms(
            (
                self.class_of[each.id],
                [form(text) for text in each.synonyms if text != each.name],
            )
            for each in self.categories
        )


def read_boxes(
    path: Path,
    folder: Path,
    tally: Tally | None = None,
    left_out: Mapping[str, str] = CROWDS,
    on_record: Callable[[Record], None] = lambda _: None,
    forms: tuple[Callable[[str], str], ...] = (),
) -> CocoBoxes:
    """Read the boxes of a COCO JSON, in memory that grows with their number alone.

    Args:
        path: of the JSON.
        folder: of the images.
        tally: counts what is mended and left out; None: a new one.
        left_out: keys of an annotation, and what one where it is true is called; its box is left
            out.
        on_record: is shown each image, and each annotation that says its image and class, also
            those left out.
        forms: of the data set's names, as of `class_names`.

    Raises:
        InputError: the file cannot be read or does not hold together, in which case the message
            names the record; or it has no box to train on.
    """
    builder = BoxTableBuilder(path, folder, tally=tally or Tally())
    path_of = PathsInside(folder)
    categories: list[Category] = []
    seen: set[int] = set()
    # Categories may stand behind the annotations, so each id gets its index when it is first met.
    indices: dict[int, int] = {}
    for record in stream_records(path, GROUPS, required="images"):
        if record.group == "categories":
            categories.append(_category(record))
            check_new_id(categories[-1].id, seen, record.where)
        elif record.group == "images":
            on_record(record)
            _add_image(builder, record, path_of)
        elif _has_references(record, builder.tally):
            on_record(record)
            _add_box(builder, record, left_out, indices)
    class_of = class_names(categories, indices.keys(), forms)
    table = builder.finish([class_of.get(id) for id in indices])
    return CocoBoxes(tuple(categories), class_of, table)


def _has_references(record: Record, tally: Tally) -> bool:
    """Whether an annotation says its image and its class; one that does not is counted."""
    for key, of in (("image_id", "images"), ("category_id", "categories")):
        if record.values.get(key) is None:
            tally.leave_out("label", f"its {key} is not among the {of}", record.where)
            return False
    return True


def _add_box(
    builder: BoxTableBuilder,
    record: Record,
    left_out: Mapping[str, str],
    indices: dict[int, int],
) -> None:
    values, category_id = record.values, record.whole("category_id")
    for key, kind in left_out.items():
        if values.get(key) and record.flag(key):
            builder.tally.leave_out(kind, "training takes single objects", record.where)
            return
    xywh = record.xywh("bbox") if values.get("bbox") else (0.0, 0.0, -1.0, -1.0)
    if min(xywh[2:]) < 0 or any(key in values for key in ANGLES):
        # Rare, so that an annotation of millions is not read whole.
        unsized = LabelledImage(0, "", 0, 0)
        found = read_annotation(record, unsized, {category_id}, builder.tally)
        if found is None:
            return
        xywh = xyxy_to_xywh(found.box)
    index = indices.setdefault(category_id, len(indices))
    builder.add_box(record.identifier("image_id"), index, xywh)


def class_names(
    categories: Sequence[Category],
    used: Collection[int],
    forms: tuple[Callable[[str], str], ...] = (),
) -> dict[int, str]:
    """The class of each category id. Two categories are one class only where nothing differs.

    A class is called as its category is. Where several categories have one name, the supercategory
    follows in brackets; those that agree in it too are one class, and so is one without a box with
    the other that has boxes. LVIS adds in brackets what tells two senses of a word apart, which is
    left away where no other category has the word.

    Args:
        categories: of one data set.
        used: ids of those that have boxes.
        forms: of the data set's names, as of `regionspot.names.distinct_names`.
    """
    kept = {each.name: each for each in reversed(categories) if each.id in used}
    there = {each.id for each in without_unused_twins(categories, used)}
    first: dict[tuple[str, str], Category] = {}
    stands_for: dict[int, Category] = {}
    for category in categories:
        same = category if category.id in there else kept[category.name]
        stands_for[category.id] = first.setdefault((same.name, same.supercategory), same)
    labels = class_labels(tuple(first.values()))
    if _has_senses(categories):
        forms = (display_name, without_underscores)
    names = dict(zip(labels, distinct_names(tuple(labels.values()), *forms), strict=True))
    return {id: names[each.id] for id, each in stands_for.items()}


def _has_senses(categories: Sequence[Category]) -> bool:
    """Whether names are LVIS's, whose categories alone have synsets."""
    return any(each.synset for each in categories)


def _category(record: Record) -> Category:
    name = record.text("name")
    if not clean_name(name):
        record.refuse(f'"name" is empty, got {name!r}; give the category a name')
    return Category(
        record.whole("id"),
        name,
        record.texts("synonyms"),
        record.text("supercategory", ""),
        record.text("synset", ""),
    )


def _add_image(builder: BoxTableBuilder, record: Record, path_of: PathsInside) -> None:
    name = image_name(record)
    # LVIS v0.5 has names of COCO 2014, whose images it asks for under their names of 2017.
    if name.startswith("COCO_") and record.values.get("neg_category_ids") is not None:
        name = name.rsplit("_", 1)[-1]
    width, height = record.size("width"), record.size("height")
    if not width or not height:
        try:
            width, height = image_size(path_of(name))
        except UnreadableImage as error:
            record.refuse(f'expected a "width" and a "height" in pixels, or the image: {error}')
        builder.tally.change("image", "its size is missing; the file's is taken", record.where)
    builder.add_image(record.identifier("id"), name, width, height)


def dataset_of(
    name: str, boxes: CocoBoxes, verified: Callable[[int], frozenset[str]] | None = None
) -> Dataset:
    """The data set of these boxes; `verified` as of `BoxTableImages`."""
    pairs = ((each.name, boxes.class_of[each.id]) for each in boxes.categories)
    images = BoxTableImages(boxes.table, verified)
    return Dataset(name, boxes.classes, images, written=names_of(pairs))


def _alternatives(name: str) -> list[str]:
    return [clean_name(part) for part in name.split("/")]


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
