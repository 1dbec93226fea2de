"""Train and run whole detectors: dethead beside torchvision's RetinaNet, FCOS and SSDlite.

    python benchmarks/whole_model.py [--batch 4 8] [--detect 1 8] [--rounds 5] [--threads 2] [--cpu]

``whole_model_peers.py`` says who is compared. All have one backbone module with random weights and one
pyramid module; *as RetinaNet*, *as FCOS* and *as SSDlite* are dethead's heads with the peer's loss and
matching, the first two with two towers of four convolutions, as the peers have (MACs are printed: the peers
predict by 3 x 3 convolutions, dethead by 1 x 1); *default* is the head, loss and matching of the shipped
road_softmax_ce.yaml. A training step is forward, loss, backward, clipping and AdamW, on one batch of noise;
the backbone is trained whole. Detection has about 1000 candidates an image; see ``equalise``. Each detects
as its library does: dethead with batch normalisation folded, torchvision without.

Each contender is alone in a process, on two threads, and they take turns: one step each, so many rounds. The
least time counts. The peers run in both memory layouts, and the better one counts. Memory is the peak of
the process in training beyond what libraries had taken before the model was made (Linux).
"""

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, Self

from side_by_side import Row, Times, compare, finish, forget_peak, memory_mib, number, parser, timed

SIZE: Final = 320  # px, width and height of the images
QUICK_SIZE: Final = 64

PAIRS: Final = (
    ("torchvision RetinaNet", "dethead as RetinaNet"),
    ("torchvision FCOS", "dethead as FCOS"),
    ("torchvision SSDlite", "dethead as SSDlite"),
    ("torchvision RetinaNet P6", "dethead default"),
    ("torchvision RetinaNet P6, 256 wide", "dethead default, 256 wide"),
    ("torchvision RetinaNet P6, towers of 2", "dethead default"),
)
OURS: Final = tuple(dict.fromkeys(ours for _, ours in PAIRS))
LAYOUTS: Final = ("contiguous", "channels_last")
ASKED: Final = {
    ("train", "torchvision RetinaNet P6"): 2.0,
    ("train", "torchvision RetinaNet P6, 256 wide"): 2.0,
}
"""Least ratio by task and peer; 1 for all others."""


class Task(NamedTuple):
    """What a contender does in a round."""

    name: str
    """"train" or "detect"."""
    batch: int


class Found(NamedTuple):
    """The least of all rounds."""

    times: Times
    mib: float


class Contestant:
    """The process of one contender; it waits while others are measured."""

    def __init__(self, name: str, layout: str, options: argparse.Namespace) -> None:
        self.name, self.layout = name, layout
        settings = {"serve": name, "layout": layout, "size": options.size, "threads": options.threads}
        command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in settings.items())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]  # which ends it
        self.process.stdout.close()  # type: ignore[union-attr]
        self.process.wait()

    def listen(self) -> Any:
        """Give its next line."""
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}; see above")
        return json.loads(line)

    def ask(self, task: Task) -> Found:
        """Let it do its task once."""
        assert self.process.stdin is not None
        print(json.dumps(task), file=self.process.stdin, flush=True)
        clock, cpu, mib = self.listen()
        return Found(Times(clock, cpu), mib)


def measure(names: list[str], tasks: list[Task], options: argparse.Namespace) -> list[Row]:
    """Let a peer, or several, and the one of dethead that is last in ``names`` do the tasks in turn."""
    ours = names[-1]
    with ExitStack() as stack:
        layouts = LAYOUTS[:1] if options.quick else LAYOUTS
        each = [(name, layout) for name in names[:-1] for layout in layouts] + [(ours, "channels_last")]
        all_of = [stack.enter_context(Contestant(name, layout, options)) for name, layout in each]
        work = {one.name: one.listen() for one in all_of}
        rows = []
        for task in tasks:
            found = {(one.name, one.layout): one.ask(task) for one in all_of}  # to warm up
            for turn in range(options.rounds):
                for one in all_of:
                    key, now = (one.name, one.layout), one.ask(task)
                    found[key] = now if turn == 0 else better(found[key], now)
            rows += [tell(task, name, ours, found, work, options) for name in names[:-1]]
    return rows


def better(one: Found, other: Found) -> Found:
    """Give the least times and the most memory."""
    return Found(Times(*map(min, one.times, other.times)), max(one.mib, other.mib))


def tell(
    task: Task,
    peer: str,
    ours: str,
    found: dict[tuple[str, str], Found],
    work: dict[str, list[float]],
    options: argparse.Namespace,
) -> Row:
    """Print all that was found of a pair, and make its row."""
    of_peer = {layout: one for (name, layout), one in found.items() if name == peer}
    layout = min(of_peer, key=lambda one: of_peer[one].times.that_counts(options))
    for name, at, one in (
        *((peer, at, one) for at, one in of_peer.items()),
        (ours, "", found[ours, LAYOUTS[1]]),
    ):
        speed = f"{task.batch / one.times.clock:7.2f} images/s {task.batch / one.times.cpu:7.2f} a CPU s"
        macs = f"{work[name][0]:.3f} G MACs {work[name][1]:.2f} M parameters"
        memory = f" {number(one.mib)} MiB" if task.name == "train" else ""
        print(f"{task.name} {task.batch:2} {name} {at:<13} {speed} {macs}{memory}", flush=True)
    own, other = found[ours, LAYOUTS[1]], of_peer[layout]
    return compare(
        f"{task.name}, {ours.removeprefix('dethead ')}",
        f"batch {task.batch}, MACs {work[ours][0] / work[peer][0]:.2f}",
        peer,
        "images/CPU s" if options.cpu else "images/s",
        task.batch / other.times.that_counts(options),
        task.batch / own.times.that_counts(options),
        asked=ASKED.get((task.name, peer), 1.0),
        memory_ratio=other.mib / own.mib if task.name == "train" else None,
    )


def serve(name: str, layout: str, size: int, threads: int) -> None:
    """Be a contender: do what the lines of stdin say, one line of JSON for each."""
    import torch  # not in the process that only watches

    torch.set_num_threads(threads)
    import whole_model_peers as peers

    before = memory_mib("VmRSS")
    contender = peers.make(name, size, channels_last=layout == "channels_last")
    print(json.dumps(peers.count_work(contender, size)), flush=True)
    peers.equalise(contender, peers.draw(2, size))
    step = peers.make_step(contender)
    batches: dict[int, peers.Drawn] = {}
    for line in sys.stdin:
        task = Task(*json.loads(line))
        drawn = batches.setdefault(task.batch, peers.draw(task.batch, size))
        contender.train(task.name == "train")
        forget_peak()
        if task.name == "train":
            times = timed(lambda: step(drawn))  # noqa: B023  # called here and now
        else:
            with torch.inference_mode():
                times = timed(lambda: contender.detect(drawn))  # noqa: B023
        print(json.dumps([*times, memory_mib("VmHWM") - before]), flush=True)


def main() -> None:
    """Parse, measure, print."""
    made = parser(__doc__)
    made.add_argument("--batch", type=int, nargs="*", default=[4, 8], help="of training steps")
    made.add_argument("--detect", type=int, nargs="*", default=[1, 8], help="batches of detection")
    made.add_argument("--rounds", type=int, default=5, help="that count, after one that does not")
    made.add_argument("--size", type=int, default=SIZE, help="of the images, in px")
    made.add_argument("--ours", nargs="*", default=[*OURS], choices=OURS, help="contenders of dethead")
    made.add_argument("--serve", help=argparse.SUPPRESS)
    made.add_argument("--layout", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.serve:
        serve(options.serve, options.layout, options.size, options.threads)
        return
    pairs = [pair for pair in PAIRS if pair[1] in options.ours]
    if options.quick:
        # One thread: on a busy machine, two wait for each other many times longer than they work.
        options.batch, options.detect, options.rounds, pairs = [2], [2], 1, pairs[-1:]
        options.threads, options.size = 1, QUICK_SIZE
    tasks = [
        *(Task("detect", size) for size in options.detect),
        *(Task("train", size) for size in options.batch),
    ]
    rows = []
    for ours in dict.fromkeys(own for _, own in pairs):
        rows += measure([*(peer for peer, own in pairs if own == ours), ours], tasks, options)
    finish(rows, options)


if __name__ == "__main__":
    main()
