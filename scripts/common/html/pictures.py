"""Encode images as bytes or data URIs: WebP, or JPEG if Pillow was built without it."""

import base64
import io

from PIL import Image, features

KIND = "webp" if features.check("webp") else "jpeg"
EXACT = 100  # quality: lossless if the format supports it


def encoded(picture: Image.Image, quality: int) -> bytes:
    """Encode an RGB image as `KIND`, with a quality from 1 to `EXACT`."""
    file = io.BytesIO()
    lossless = quality == EXACT and KIND == "webp"
    picture.save(file, format=KIND, **({"lossless": True} if lossless else {"quality": quality}))
    return file.getvalue()


def data_uri(kind: str, data: bytes) -> str:
    """An image as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
