"""The sections of a config file: types, ranges and agreement. Nothing is built here."""

from dethead.config.sections.objective import Term
from dethead.config.sections.run import Run
from dethead.config.sections.schemes import Recipe, SigmoidBCE, SoftmaxCE
from dethead.config.sections.section import UNKNOWN_NAME, OwnPart, Section
from dethead.config.sections.training import AdamW, Cosine, Muon

__all__ = [
    "UNKNOWN_NAME",
    "AdamW",
    "Cosine",
    "Muon",
    "OwnPart",
    "Recipe",
    "Run",
    "Section",
    "SigmoidBCE",
    "SoftmaxCE",
    "Term",
]
