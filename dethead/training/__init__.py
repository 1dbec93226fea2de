"""Training: the only place that sees data, detector, assigner, criterion and evaluation together.

``inputs`` opens the data, ``run_folder`` is what a run leaves behind, ``checkpoint`` saves and resumes,
``optimisation`` and ``ema`` move the weights, ``validation`` scores them, ``loop`` puts it together and
``start`` starts it; ``finished`` takes a trained run up again.
"""

from dethead.training.finished import FinishedRun, evaluate_run
from dethead.training.inputs import Inputs
from dethead.training.loop import Interrupted
from dethead.training.start import train

__all__ = ["FinishedRun", "Inputs", "Interrupted", "evaluate_run", "train"]
