"""Bytes that are normalised where the model runs are the floats that the processor would have sent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvlm.models import load, pixels
from dvlm.values import InputError


@pytest.fixture
def images(tiny):
    return load.load_processor(str(tiny), 4096, 65536).image_processor


def test_floats_are_the_processors_own_bit_for_bit(images):
    rng = np.random.default_rng(0)
    layout = {"input_data_format": "channels_last", "return_tensors": "pt"}
    values = np.arange(256, dtype=np.uint8)
    pictures = [rng.integers(0, 256, (*rng.integers(3, 400, 2), 3), np.uint8) for _ in range(40)]
    pictures.append(np.tile(values, (256, 3, 1)).transpose(0, 2, 1))
    for picture in pictures:
        sent = images([picture], do_rescale=False, do_normalize=False, **layout)["pixel_values"]
        wanted = images([picture], **layout)["pixel_values"]
        assert sent.dtype == torch.uint8
        assert wanted.dtype == torch.float32
        assert pixels.floats(sent).equal(wanted)


@pytest.mark.parametrize(
    ("name", "value"), [("image_mean", [0.48, 0.46, 0.41]), ("image_std", 0.25), ("do_normalize", False)]
)
def test_another_normalisation_is_refused(images, name, value):
    pixels.check(images)
    setattr(images, name, value)
    with pytest.raises(InputError, match=f"{name} .*expected"):
        pixels.check(images)
