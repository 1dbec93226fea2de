"""Heads: feature maps in, HeadOutput out. No loss, no decoding, no thresholds."""

import math
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dethead.boxes import at_least_float32
from dethead.schemes import ClassScheme, Prior
from dethead.structures import HeadOutput

Norm = Literal["group", "batch", "none"]

CHANNELS_PER_GROUP = 8
"""Of GroupNorm: narrow heads keep groups of a useful size, where a fixed 32 groups would leave 2 channels."""


class DetectionHead(nn.Module):
    """A convolution tower and one prediction layer, shared by all pyramid levels.

    Args:
        in_channels: channels of every feature map.
        anchors_per_cell: anchor shapes at each of its cells.
        num_classes: C, foreground classes only.
        scheme: decides the initial bias of the class logits, nothing else here.
        width: channels of the tower; ``in_channels`` if not given.
        depth: 3x3 convolutions in the tower, 0 for none.
        separable: depthwise 3x3 and pointwise 1x1 in place of a full 3x3 convolution.
        norm: behind each convolution of the tower. "batch" mixes the statistics of all levels; "group" needs
            no batch at all, so that one image or many processes train alike.
        class_prior: probability that each class starts with; see ``ClassScheme.initial_bias``.
        confidence_prior: where every anchor starts; without it background swamps the first steps.
        box_bias: the four box numbers that every anchor starts with. ``anchor_code(codec)`` makes that the
            anchor itself; a codec of distances would otherwise start with boxes of no size.
        embedding_channels: E, numbers in the embedding of each anchor; 0 for no embedding branch. Embeddings
            have length 1, so that a margin means the same in every run: distances are in [0, 2].

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        anchors_per_cell: int,
        num_classes: int,
        scheme: ClassScheme,
        *,
        width: int | None = None,
        depth: int = 2,
        separable: bool = False,
        norm: Norm = "group",
        class_prior: Prior = None,
        confidence_prior: float = 0.01,
        box_bias: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        embedding_channels: int = 0,
    ) -> None:
        super().__init__()
        if num_classes < 1 or anchors_per_cell < 1 or depth < 0:
            raise ValueError(
                "num_classes and anchors_per_cell must be at least 1, depth at least 0; got "
                f"{num_classes}, {anchors_per_cell}, {depth}"
            )
        if embedding_channels < 0:
            raise ValueError(f"embedding_channels must be at least 0, got {embedding_channels}")
        if not 0 < confidence_prior < 1:
            raise ValueError(f"confidence_prior must be in (0, 1), got {confidence_prior}")
        self.num_classes = num_classes
        self.anchors_per_cell = anchors_per_cell
        width = in_channels if width is None else width
        widths = [in_channels] + [width] * depth
        # What the layers draw for themselves is not used: it must not move the random numbers on, because how
        # many they draw depends on their shapes.
        with torch.random.fork_rng(devices=[]):
            self.tower = nn.Sequential(*(_tower_block(i, o, separable, norm) for i, o in pairwise(widths)))
            self.prediction = nn.Conv2d(widths[-1], anchors_per_cell * (num_classes + 5), 1)
        confidence_bias = math.log(confidence_prior / (1 - confidence_prior))
        class_bias = scheme.initial_bias(num_classes, class_prior)
        self._initialise(torch.cat([class_bias, class_bias.new_tensor([confidence_bias, *box_bias])]))
        self.embedding: nn.Conv2d | None = None
        if embedding_channels:
            # Last, and without moving the random numbers on: everything else, here and in what is built
            # afterwards, starts as it does without the branch.
            with torch.random.fork_rng(devices=[]):
                self.embedding = nn.Conv2d(widths[-1], anchors_per_cell * embedding_channels, 1)

    def _initialise(self, bias: Tensor) -> None:
        """Set the tower, and the prediction layer with the (C + 5,) bias of each anchor.

        Every layer draws from a stream of its own, named after it: of two heads with the same seed all layers
        of the same name and shape start alike, whatever else differs. The seed is a number of torch's stream.
        """
        seed = int(torch.randint(2**32, (), device="cpu"))
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            stream = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            drawn = torch.empty(module.weight.shape, device="cpu")
            if module is self.prediction:
                # Small weights: the first outputs are what the priors say, whatever image and scheme.
                nn.init.normal_(drawn, std=0.01, generator=stream)
                new_bias = bias.repeat(self.anchors_per_cell)
            else:
                # fan_in, because a depthwise convolution's fan_out counts channels it does not feed
                nn.init.kaiming_normal_(drawn, mode="fan_in", nonlinearity="relu", generator=stream)
                new_bias = torch.zeros(module.out_channels)
            with torch.no_grad():
                module.weight.copy_(drawn)
                if module.bias is not None:
                    module.bias.copy_(new_bias)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Predict from one (B, in_channels, H_l, W_l) map per level, finest first.

        The order along A is level, row, column, anchor shape, as the anchors are generated.
        """
        raw, embeddings = [], []
        for feature in features:
            tower = self.tower(feature)
            raw.append(self.prediction(tower))
            if self.embedding is not None:
                embeddings.append(self.embedding(tower))
        if not embeddings:
            return HeadOutput(self._per_anchor(raw))
        directions = F.normalize(at_least_float32(self._per_anchor(embeddings)), dim=-1)
        return HeadOutput(self._per_anchor(raw), directions)

    @property
    def class_rows(self) -> Tensor:
        """(anchors_per_cell * C, width) weights that make class logits, attached to the parameter.

        What a penalty on the class weights is taken of; see ``l2_penalty``.
        """
        weight = self.prediction.weight
        per_anchor = weight.view(self.anchors_per_cell, self.num_classes + 5, weight.shape[1])
        return per_anchor[:, : self.num_classes].flatten(0, 1)

    def _per_anchor(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, anchors_per_cell * K, H_l, W_l) of each level to (B, A, K), in one copy.

        Only what is a view in either memory format happens before the levels are joined: rows and columns
        become one, and change places with the channels. Shapes are told apart in the joined tensor.
        """
        cells = torch.cat([maps.flatten(2).transpose(1, 2) for maps in levels], dim=1)
        batch, count, channels = cells.shape
        return cells.view(batch, count * self.anchors_per_cell, channels // self.anchors_per_cell)


def _tower_block(in_channels: int, out_channels: int, separable: bool, norm: Norm) -> nn.Sequential:
    """3x3 convolution, normalisation, ReLU."""
    layers: list[nn.Module] = []
    bias = norm == "none"
    if separable:
        layers += [
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        ]
    else:
        layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)]
    if norm == "group":
        groups = max(1, out_channels // CHANNELS_PER_GROUP)
        if out_channels % groups:
            raise ValueError(f"a width of {out_channels} does not divide into groups of {CHANNELS_PER_GROUP}")
        layers += [nn.GroupNorm(groups, out_channels)]
    elif norm == "batch":
        layers += [nn.BatchNorm2d(out_channels)]
    elif norm != "none":
        raise ValueError(f"norm must be 'group', 'batch' or 'none', got {norm!r}")
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
