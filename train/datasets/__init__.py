"""Readers of annotated images, each of which gives a `Dataset`."""

from train.datasets.base import AnnotatedImage, Dataset, Words
from train.datasets.coco import (
    listed_words,
    load_coco,
    read_coco,
    read_objects365,
    read_v3det,
)
from train.datasets.lvis import read_lvis
from train.datasets.words import merge_words, readable

__all__ = [
    "AnnotatedImage",
    "Dataset",
    "Words",
    "listed_words",
    "load_coco",
    "merge_words",
    "read_coco",
    "read_lvis",
    "read_objects365",
    "read_v3det",
    "readable",
]
