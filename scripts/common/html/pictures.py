"""Pictures as bytes and as text within a page: WebP, or JPEG if Pillow was built without it."""

import base64
import io

from PIL import Image, features

KIND = "webp" if features.check("webp") else "jpeg"
EXACT = 100  # a quality: lossless if the kind can


def encoded(picture: Image.Image, quality: int) -> bytes:
    """An RGB picture as `KIND`, of a quality from 1 to `EXACT`."""
    file = io.BytesIO()
    lossless = quality == EXACT and KIND == "webp"
    picture.save(file, format=KIND, **({"lossless": True} if lossless else {"quality": quality}))
    return file.getvalue()


def data_uri(kind: str, data: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
