"""Floor 8: the verb that looks at a gradient computed by hand: doctor."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..doctor import Case, Diagnosis, diagnose, template
from ..nn import Linear, RNNCell
from .common import Adder, listing, say


def verbs(add: Adder) -> None:
    added = add("doctor", doctor, "Name the mistake in a hand-written BPTT; without files, a demonstration.",
                "tinygrad-rnn doctor --case out/case.npz --gradient out/mine.npz", files=True)
    added.add_argument("--case", type=Path, help="the model, the sequence and the loss (.npz, see the demonstration)")
    added.add_argument("--gradient", type=Path, help="your gradients by name: U, W, b, V, c, h_0, … (.npz)")


def doctor(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    if (options.case is None) != (options.gradient is None):
        raise ValueError("--case and --gradient go together; without both there is a demonstration")
    if options.case is None:
        return demonstration(options)
    diagnosis = diagnose(Case.load(options.case), options.gradient)
    say(options, diagnosis)
    return {**as_data(diagnosis), "files": []}, bool(diagnosis)


def demonstration(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """A case, a script to start from, and what the doctor says of it; good if the doctor sees what is wrong."""
    options.out.mkdir(parents=True, exist_ok=True)
    case, script, mine = (options.out / name for name in ("case.npz", "my_bptt.py", "mine.npz"))
    example(np.random.default_rng(options.seed)).save(case)
    script.write_text(Path(str(template.__file__)).read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, str(script), str(case), str(mine)], check=True)
    diagnosis = diagnose(Case.load(case), mine)
    say(options, f"{script} computes the gradients of {case} by hand, with a mistake. The doctor says:", "",
        diagnosis, "", "Now mend it, or write your own in its place, and ask again:",
        f"  {Path(sys.executable).name} {script} {case} {mine}",
        f"  tinygrad-rnn doctor --case {case} --gradient {mine}")
    files = [str(case), str(script), str(mine)]
    listing(options, files)
    return {**as_data(diagnosis), "files": files}, not diagnosis


def example(rng: np.random.Generator) -> Case:
    """A case that tells mistakes apart: T ≥ 3, H ≥ 2, B ≥ 2, all sizes different, h_0 not 0, a loss at every step."""
    T, B, D, H, V = 6, 2, 3, 4, 5
    cell, head = RNNCell(D, H, rng=rng), Linear(H, V, rng=rng)
    return Case(cell, head, rng.normal(size=(T, B, D)), rng.integers(0, V, (T, B)), rng.normal(size=(B, H)))


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    return {"correct": bool(diagnosis), "gradients": {
        finding.name: {
            "correct": bool(finding),
            "orientation": finding.orientation,
            "explanations": [{"mistakes": [{"name": m.name, "sentence": m.sentence, "equation": m.equation}
                                           for m in match.mistakes],
                              "step": match.place.step, "entry": list(match.place.entry),
                              "wrong": match.place.wrong, "right": match.place.right} for match in finding.matches],
        } for finding in diagnosis.findings}}
