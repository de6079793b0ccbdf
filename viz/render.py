"""Who draws: Graphviz where it is installed, else pygraphviz, else the built-in writer; every wait has a limit."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Literal

Program = Literal["neato", "dot"]  # neato draws at given positions, dot finds positions
ARGUMENTS: dict[Program, list[str]] = {"neato": ["-n2"], "dot": []}
SECONDS = 30.0  # the longest that Graphviz may take
HOW = "install Graphviz (https://graphviz.org/download, or `pip install pygraphviz`)"


class NoRendererError(RuntimeError):
    """Nothing here can draw this; the message is one sentence on what is missing and how to get it."""


def graphviz(source: str, program: Program, form: str, seconds: float = SECONDS) -> tuple[bytes, str]:
    """DOT text drawn as `form` ('svg', 'png', 'pdf', …) and the name of the renderer.

    Raises NoRendererError where there is no Graphviz, where it fails, or where it takes longer than the limit.
    """
    if shutil.which(program):
        try:
            done = subprocess.run([program, *ARGUMENTS[program], f"-T{form}"], input=source.encode(),
                                  capture_output=True, timeout=seconds, check=True)
        except subprocess.TimeoutExpired as error:
            raise NoRendererError(f"Graphviz had not drawn the graph after {seconds:g} seconds; draw a smaller graph, "
                             f"or take the DOT text.") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip()
            raise NoRendererError(f"Graphviz could not draw {form}: {said}") from error
        return done.stdout, program
    if importlib.util.find_spec("pygraphviz"):
        return by_pygraphviz(source, program, form), "pygraphviz"
    raise NoRendererError(f"Drawing this as {form} needs the program {program!r}, which is not on the PATH: {HOW}.")


def by_pygraphviz(source: str, program: Program, form: str) -> bytes:
    import pygraphviz
    layout = "nop2" if program == "neato" else program  # its name for `neato -n2`
    drawn: bytes = pygraphviz.AGraph(string=source).draw(format=form, prog=layout)
    return drawn


def write(path: str | Path, source: str, program: Program, built_in: str | None) -> str:
    """Write a drawing as its suffix says: .dot and .gv as text, all else by Graphviz, .svg also by the built-in writer.

    built_in: the SVG text of the built-in writer, if it can draw this. Returns what wrote the file: 'neato', 'dot',
    'pygraphviz', 'built-in' or 'text'. Raises ValueError for a name without a suffix, NoRendererError where nothing
    can draw it, OSError where the file cannot be written.
    """
    path = Path(path)
    form = path.suffix[1:].lower()
    if not form:
        raise ValueError(f"render: {str(path)!r} has no suffix; expected .svg, .png, .pdf or .dot")
    if form in ("dot", "gv"):
        path.write_text(source, encoding="utf-8", newline="\n")
        return "text"
    try:
        drawn, by = graphviz(source, program, form)
    except NoRendererError:
        if form == "svg" and built_in is not None:
            drawn, by = built_in.encode(), "built-in"
        else:
            raise
    path.write_bytes(drawn)
    return by
