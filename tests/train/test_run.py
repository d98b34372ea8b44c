"""What a training is made of: the data sets it is told, and what their regions have in common."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from regionspot.errors import InputError
from tests.train.factories import images, training_set
from train.run import parse_specs, usual_pooled


def test_data_sets_have_ratios_or_none_has() -> None:
    assert parse_specs(["a", "b/c"]) == [("a", 0.0), ("b/c", 0.0)]
    assert parse_specs(["a=2", "lvis:b=0.5"]) == [("a", 2.0), ("lvis:b", 0.5)]
    assert parse_specs(["a=b"]) == [("a=b", 0.0)]
    for specs, message in (
        ([], "at least one data set"),
        (["a", "b=2"], "to every --data or to none"),
        (["a", "a"], "a is given twice"),
    ):
        with pytest.raises(InputError, match=message):
            parse_specs(specs)


def test_what_regions_have_in_common_is_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [training_set(images(4)), training_set(images(6))]
    pooled = [image.pooled for data in sets for image in data.features if image.pooled is not None]
    everything = F.normalize(torch.cat(pooled), dim=-1).mean(0)
    usual = usual_pooled(sets)
    torch.testing.assert_close(usual, everything)
    monkeypatch.setattr("train.run.MOST_FOR_USUAL", 5)
    first = [image.pooled for data in sets for image in data.features[::2]]
    some = F.normalize(torch.cat([each for each in first if each is not None]), dim=-1).mean(0)
    torch.testing.assert_close(usual_pooled(sets), some)


def test_towers_that_pool_nothing_have_nothing_in_common() -> None:
    bare = [replace(image, pooled=None) for image in images(3)]
    assert usual_pooled([training_set(bare)]) is None
