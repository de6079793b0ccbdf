"""The doctor: hand in the gradient of a hand-written BPTT, and learn which mistake is in it."""

from .case import Case
from .diagnosis import Diagnosis, Finding, Match, diagnose
from .mistakes import Mistake, mistakes

__all__ = ["Case", "Diagnosis", "Finding", "Match", "Mistake", "diagnose", "mistakes"]
