"""Backpropagation through time taken apart into explicit and implicit terms, and each number proved."""

from . import reference
from .formulas import Inside, inside
from .jacobian import decay, prove_decay, state_jacobian, state_jacobians, states
from .matrix import Terms, terms
from .parts import Explanation, explain
from .proof import Proof, Witness, prove
from .truncation import Truncation, prove_truncation, truncation

__all__ = ["Explanation", "Inside", "Proof", "Terms", "Truncation", "Witness", "decay", "explain", "inside", "prove",
           "prove_decay", "prove_truncation", "reference", "state_jacobian", "state_jacobians", "states", "terms",
           "truncation"]
