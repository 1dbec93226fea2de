"""Small annotation files, written by the tests that read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_files import CATEGORIES, image


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Write an annotation file; one 40 x 20 image (id 7), categories with gaps in their ids, no boxes."""

    def write(annotations: Any = None, images: Any = None, categories: Any = None, **changes: Any) -> Path:
        content = {
            "images": [image(7)] if images is None else images,
            "annotations": [] if annotations is None else annotations,
            "categories": CATEGORIES if categories is None else categories,
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content | changes))
        return path

    return write
