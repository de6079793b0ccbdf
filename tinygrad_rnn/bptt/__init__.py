"""Backpropagation through time taken apart into explicit and implicit terms, and each number proved."""

from . import reference
from .parts import Explanation, Terms, explain, terms
from .proof import Proof, Witness, prove

__all__ = ["Explanation", "Proof", "Terms", "Witness", "explain", "prove", "reference", "terms"]
