"""Time and measure the way from prediction maps to one row of numbers for each anchor.

    python benchmarks/head_output.py [--quick] [--json FILE]

Maps of 8 images of 640 x 640 at strides 8 to 64, 3 anchors in a cell, 80 classes, in both memory formats,
brought to (B, A, C + 5). The peer is what detectors do as a rule: permute and reshape each level, and
concatenate them. *forward* is without gradients, *and back* with the gradient of the maps. The results are
compared, to the bit. Times are the least of some rounds; memory is what one forward
pass adds to a process of its own at its peak, in sizes of the output (Linux).
"""

import argparse
import json
from collections.abc import Callable

import torch
from side_by_side import Row, added_mib, alone, compare, environment, finish, least, ms, parser
from torch import Tensor

from dethead.heads import DetectionHead
from dethead.schemes import SoftmaxCE

ANCHORS, CLASSES = 3, 80
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def draw(layout: str, images: int) -> list[Tensor]:
    """Give the prediction map of each level."""
    generator = torch.Generator().manual_seed(0)
    channels = ANCHORS * (CLASSES + 5)
    return [
        torch.randn(images, channels, cells, cells, generator=generator).contiguous(
            memory_format=FORMATS[layout]
        )
        for cells in (80, 40, 20, 10)
    ]


def permuted(levels: list[Tensor]) -> Tensor:
    """Join the levels the usual way."""
    numbers = CLASSES + 5
    return torch.cat([maps.permute(0, 2, 3, 1).reshape(len(maps), -1, numbers) for maps in levels], dim=1)


def contenders() -> dict[str, Callable[[list[Tensor]], Tensor]]:
    """Give the two ways by name."""
    head = DetectionHead(8, ANCHORS, CLASSES, SoftmaxCE(), depth=0)
    return {"permute": permuted, "dethead": head._per_anchor}


def backward(way: Callable[[list[Tensor]], Tensor], levels: list[Tensor], gradient: Tensor) -> None:
    """Go forward and back; what arrives is laid out as a convolution in the maps' format needs it."""
    leaves = [maps.detach().requires_grad_() for maps in levels]
    way(leaves).backward(gradient)


def copies(way: str, layout: str, images: int) -> float:
    """Give the peak of one forward pass in sizes of the output, measured in a process of its own."""
    mib: float = alone(__file__, "--peak", way, layout, str(images))
    return mib / (draw_size(images) * 4 / 2**20)


def draw_size(images: int) -> int:
    """Give how many numbers the output has."""
    return images * sum(cells * cells for cells in (80, 40, 20, 10)) * ANCHORS * (CLASSES + 5)


def print_peak(way: str, layout: str, images: int) -> None:
    """Measure in this process."""
    call, levels = contenders()[way], draw(layout, images)
    call(draw(layout, 1))
    with torch.no_grad():
        print(json.dumps(added_mib(lambda: call(levels))))


def measure(layout: str, images: int, rounds: int, options: argparse.Namespace) -> list[Row]:
    """Give the rows of one memory format."""
    levels, ways = draw(layout, images), contenders()
    wanted = permuted(levels)
    assert torch.equal(ways["dethead"](levels), wanted), f"{layout}: other numbers"
    forward = least({name: lambda way=way: way(levels) for name, way in ways.items()}, rounds)
    back = least({name: lambda way=way: backward(way, levels, wanted) for name, way in ways.items()}, rounds)
    memory = None
    if not options.quick:  # which measures no more than the call before it has left behind
        size = {name: copies(name, layout, images) for name in ways}
        print(f"{layout}: " + ", ".join(f"{name} {size[name]:.2f} output sizes" for name in ways))
        memory = size["permute"] / size["dethead"]
    return [
        compare(
            "head output",
            f"{images} images, {layout}, {case}",
            "torch permute + reshape + cat",
            ms(options),
            1000 * times["permute"].that_counts(options),
            1000 * times["dethead"].that_counts(options),
            memory_ratio=memory if case == "forward" else None,
        )
        for case, times in (("forward", forward), ("and back", back))
    ]


def main() -> None:
    """Parse, check, measure."""
    made = parser(__doc__)
    made.add_argument("--peak", nargs=3, metavar=("WAY", "LAYOUT", "IMAGES"), help="measure memory only")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        way, layout, images = options.peak
        print_peak(way, layout, int(images))
        return
    print(environment())
    images, rounds = (1, 1) if options.quick else (8, 9)
    finish([row for layout in FORMATS for row in measure(layout, images, rounds, options)], options)


if __name__ == "__main__":
    main()
