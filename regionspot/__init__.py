"""RegionSpot: labels for given boxes from frozen SAM tokens and a frozen image-text map."""

from regionspot.model import Predictor, RegionSpot, load_model
from regionspot.types import Labels, Vocabulary

__all__ = ["Labels", "Predictor", "RegionSpot", "Vocabulary", "load_model"]
