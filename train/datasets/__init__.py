"""Readers of annotated images, each of which gives a `Dataset`."""

from train.datasets.base import AnnotatedImage, Dataset, Words
from train.datasets.coco import (
    listed_words,
    load_coco,
    read_coco,
    read_objects365,
    read_v3det,
)
from train.datasets.fiftyone_field import read_fiftyone
from train.datasets.lvis import read_lvis
from train.datasets.open_images import OpenImagesFiles, read_open_images
from train.datasets.registry import known_words, open_dataset
from train.datasets.words import merge_words, readable

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
    "readable",
]
