"""From COCO files on a disk to batches.

``layout`` finds the files, ``coco`` reads the annotations, ``images`` decodes, ``transforms`` augments and
resizes, ``dataset`` joins image and truth, ``orders`` says which images an epoch shows, ``sampling`` gives
the batches and the loader.
"""

from dethead.data.classes import ClassChoice, Hierarchy
from dethead.data.coco import Classes, CocoSet, CocoTruth, DataError, choose_classes
from dethead.data.dataset import DetectionDataset, Item, Problem, check_images, collate
from dethead.data.images import read_image
from dethead.data.layout import Split, find_split
from dethead.data.orders import ClassAware, InTurn, Order, RepeatFactor, Uniform
from dethead.data.sampling import EpochBatches, make_loader
from dethead.data.transforms import Sample, TrainTransform, resize_to_fit

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
