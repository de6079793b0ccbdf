"""Pictures of computation graphs: the unrolled network with its values, gradients and terms, and any other expression.

    from viz import Term, draw, explore
    draw(E)                                       # shows itself in a notebook, and so does E once viz is imported
    draw(E, recording=record(E)).render("E.svg")  # with the gradient of every node
    draw(E, term=Term(E_4, W, k=2))               # one term of W's gradient
    explore([E_1, E_2, E_3], W).write("E.html")   # a page on which one walks through the run, forward and back
"""

from .drawing import Drawing, draw
from .explorer import Explorer, explore
from .notebook import install
from .render import NoRendererError
from .shown import Term

install()

__all__ = ["Drawing", "Explorer", "NoRendererError", "Term", "draw", "explore"]
