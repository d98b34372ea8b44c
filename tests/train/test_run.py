"""The data sets of a training."""

import pytest

from regionspot.errors import InputError
from train.run import parse_specs


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
