"""Recurrent networks as computation graphs: parameters, cells, the unrolling, layers over time and without it."""

from .cell import Cell, affine
from .cells import GRUCell, LSTMCell, RNNCell
from .layers import Embedding, Linear
from .module import Module, Parameter
from .recurrent import GRU, LSTM, RNN, Recurrent
from .unroll import unroll

__all__ = ["GRU", "LSTM", "RNN", "Cell", "Embedding", "GRUCell", "LSTMCell", "Linear", "Module", "Parameter", "RNNCell",
           "Recurrent", "affine", "unroll"]
