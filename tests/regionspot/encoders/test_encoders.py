"""What a configuration says of an encoder before its weights are loaded."""

import pytest

from regionspot.config import preset
from regionspot.encoders import encoder_class


@pytest.mark.parametrize(
    ("name", "tokens"), [("mini", 226), ("bb", 197), ("bl", 257), ("bl-336", 577)]
)
def test_tokens_of_a_map(name: str, tokens: int) -> None:
    encoder = preset(name).encoder
    assert encoder_class(encoder).map_length(encoder) == tokens


def test_image_features_depend_on_what_each_encoder_does() -> None:
    mini, bl = preset("mini").encoder, preset("bl").encoder
    settings = [encoder_class(each).feature_settings(each) for each in (mini, bl)]
    assert [set(each) - set(mini.image_settings()) for each in settings] == [{"pooling"}, set()]
    assert [encoder_class(each).pools for each in (mini, bl)] == [True, False]
