"""Other systems' conventions in dethead's parts, as far as C + 1 + 4 numbers per anchor can express them.

A preset is for two things: to train as that system does, and to say in a comparison which of the many numbers
differ. SSD and Faster R-CNN have no preset: they score a background class, C + 1 logits in one softmax, whose
hard negatives are mined from the class loss; here "is there an object" is the confidence logit's question.
Nor have Ultralytics v8 and the DETR family: their boxes are distributions, or are matched one to one.
"""

from dethead.presets.fcos import fcos_torchvision
from dethead.presets.preset import HeadSettings, Preset
from dethead.presets.retinanet import (
    detectron2_retinanet,
    efficientdet,
    retinanet_torchvision,
    retinanet_torchvision_v2,
)
from dethead.presets.yolov3 import yolov3
from dethead.presets.yolox import yolox

__all__ = [
    "HeadSettings",
    "Preset",
    "detectron2_retinanet",
    "efficientdet",
    "fcos_torchvision",
    "retinanet_torchvision",
    "retinanet_torchvision_v2",
    "yolov3",
    "yolox",
]
