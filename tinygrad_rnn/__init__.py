"""Reverse-mode autodiff on NumPy, recurrent networks built with it, and backpropagation through time taken apart."""

from . import bptt, functional, models, nn, optim, trace, weights
from .check import gradcheck
from .recording import record
from .scope import no_grad, scope
from .tensor import Tensor

__version__ = "0.1.0"
__all__ = ["Tensor", "bptt", "functional", "gradcheck", "models", "nn", "no_grad", "optim", "record", "scope", "trace",
           "weights"]
