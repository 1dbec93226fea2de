"""From COCO files on a disk to batches.

``layout`` finds the files, ``coco`` reads the annotations, ``images`` decodes, ``samples`` moves image and
truth together, ``transforms`` augments with the mosaics of ``joining``, ``dataset`` joins all of it,
``orders`` says which images an epoch shows, ``input_sizes`` how large, ``sampling`` gives the batches and the
loader.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dethead.data.classes import ClassChoice, Hierarchy
from dethead.data.coco import Classes, CocoSet, CocoTruth, DataError, choose_classes
from dethead.data.input_sizes import InputSizes
from dethead.data.layout import Split, find_split
from dethead.data.orders import ClassAware, InTurn, Order, RepeatFactor, Uniform

if TYPE_CHECKING:
    from dethead.data.dataset import DetectionDataset, Item, Problem, check_images, collate
    from dethead.data.images import read_image
    from dethead.data.samples import Sample, resize_to_fit
    from dethead.data.sampling import EpochBatches, make_loader
    from dethead.data.transforms import TrainTransform

# What looks at images is found on first use: torchvision takes as long to import as PyTorch, and results are
# scored without it.
_HOMES = {
    "dethead.data.dataset": ["DetectionDataset", "Item", "Problem", "check_images", "collate"],
    "dethead.data.images": ["read_image"],
    "dethead.data.sampling": ["EpochBatches", "make_loader"],
    "dethead.data.samples": ["Sample", "resize_to_fit"],
    "dethead.data.transforms": ["TrainTransform"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ClassAware",
    "ClassChoice",
    "Classes",
    "CocoSet",
    "CocoTruth",
    "DataError",
    "DetectionDataset",
    "EpochBatches",
    "Hierarchy",
    "InTurn",
    "InputSizes",
    "Item",
    "Order",
    "Problem",
    "RepeatFactor",
    "Sample",
    "Split",
    "TrainTransform",
    "Uniform",
    "check_images",
    "choose_classes",
    "collate",
    "find_split",
    "make_loader",
    "read_image",
    "resize_to_fit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dethead.data' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
