"""Recurrent networks as computation graphs: parameters, cells, the unrolling, and layers without time."""

from .cells import RNNCell
from .layers import Embedding, Linear
from .module import Module, Parameter
from .unroll import unroll

__all__ = ["Embedding", "Linear", "Module", "Parameter", "RNNCell", "unroll"]
