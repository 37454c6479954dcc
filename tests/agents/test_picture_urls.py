from __future__ import annotations

import asyncio
import base64
import io

import numpy as np
import pytest
from PIL import Image

from agents import picture_urls
from agents.picture_urls import PictureUrls

PICTURE = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)


@pytest.fixture
def encoded(monkeypatch):
    """Every picture that is encoded, in turn."""
    came, honest = [], picture_urls.data_url
    monkeypatch.setattr(picture_urls, "data_url", lambda image: came.append(image) or honest(image))
    return came


def urls(pictures: PictureUrls, *images) -> list[str]:
    async def ask():
        return await asyncio.gather(*(pictures.url(image) for image in images))

    return asyncio.run(ask())


def test_equal_pictures_are_encoded_once_even_at_the_same_time(encoded):
    found = urls(PictureUrls(), *(PICTURE.copy() for _ in range(8)))
    assert len(encoded) == 1 and len(set(found)) == 1
    data = base64.b64decode(found[0].partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), PICTURE)


def test_other_pixels_and_other_shapes_are_other_pictures(encoded):
    changed = PICTURE.copy()
    pictures = PictureUrls()
    first, turned = urls(pictures, changed, changed.reshape(16, 12, 3))
    changed[0, 0, 0] ^= 1
    (second,) = urls(pictures, changed)
    assert len({first, turned, second}) == len(encoded) == 3


def test_no_more_pictures_are_kept_than_said(encoded, monkeypatch):
    monkeypatch.setattr(picture_urls, "_KEPT", 2)
    pictures = PictureUrls()
    for shade in (0, 1, 2, 0):
        urls(pictures, np.full((4, 4, 3), shade, np.uint8))
    assert len(encoded) == 4


def test_a_picture_that_cannot_be_encoded_fails_for_all_who_ask():
    async def ask():
        pictures = PictureUrls()
        bad = np.zeros((2, 2, 7), np.uint8)
        return await asyncio.gather(*(pictures.url(bad) for _ in range(3)), return_exceptions=True)

    assert all(isinstance(error, TypeError) for error in asyncio.run(ask()))
