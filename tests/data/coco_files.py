"""Records of small annotation files."""

from typing import Any

Json = dict[str, Any]

CATEGORIES = [{"id": 8, "name": "truck"}, {"id": 1, "name": "person"}, {"id": 3, "name": "car"}]


def image(id_: int, width: int = 40, height: int = 20, **changes: Any) -> Json:
    return {"id": id_, "file_name": f"{id_}.png", "width": width, "height": height} | changes


def annotation(id_: int, image_id: int = 7, box: Any = (1, 2, 10, 5), category: Any = 3, **more: Any) -> Json:
    return {"id": id_, "image_id": image_id, "bbox": list(box), "category_id": category} | more
