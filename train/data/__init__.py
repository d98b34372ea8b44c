"""Readers of annotated images, each of which gives a `Dataset`."""

from train.data.coco import load_coco, read_coco, read_folder
from train.data.label_space import merge_label_spaces
from train.data.registry import READERS, known_classes, open_dataset
from train.data.types import AnnotatedImage, ClassSynonyms, Dataset, LazySequence, Subset

__all__ = [
    "READERS",
    "AnnotatedImage",
    "ClassSynonyms",
    "Dataset",
    "LazySequence",
    "Subset",
    "known_classes",
    "load_coco",
    "merge_label_spaces",
    "open_dataset",
    "read_coco",
    "read_folder",
]
