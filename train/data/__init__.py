"""Readers of annotated images, each of which gives a `Dataset`."""

from train.data.coco import (
    listed_words,
    load_coco,
    read_coco,
    read_objects365,
    read_v3det,
)
from train.data.fiftyone import read_fiftyone
from train.data.label_space import merge_words
from train.data.lvis import read_lvis
from train.data.open_images import OpenImagesFiles, read_open_images
from train.data.registry import known_words, open_dataset
from train.data.types import AnnotatedImage, Dataset, Words

__all__ = [
    "AnnotatedImage",
    "Dataset",
    "OpenImagesFiles",
    "Words",
    "known_words",
    "listed_words",
    "load_coco",
    "merge_words",
    "open_dataset",
    "read_coco",
    "read_fiftyone",
    "read_lvis",
    "read_objects365",
    "read_open_images",
    "read_v3det",
]
