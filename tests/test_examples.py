"""The lessons run as a reader would run them, and print what they promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "examples").glob("[0-9]*.py"))
PROMISED = {
    "01": ["w.grad = 0.108", "proved by 7 witnesses"],
    "02": ["proved by 7 witnesses", "‖A[t,k]‖"],
    "03": ["culprit: softplus", "at t=4"],
    "04": ["perplexity after:", "Beautiful"],
    "05": ["both directions:", "<- it has read its targets"],
    "06": ["of the others right", "proved by 7 witnesses"],
    "07": ["3.5e+09 ≤ Π‖D_j W‖", "proved: True", "the direct path is diag f_3"],
}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_and_prints_what_it_promises(lesson):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    run = subprocess.run([sys.executable, lesson], capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == 0, run.stderr
    for promise in PROMISED[lesson.stem[:2]]:
        assert promise in run.stdout


def test_the_character_model_of_the_lesson_has_learned() -> None:
    lesson = next(path for path in LESSONS if path.name.startswith("04"))
    run = subprocess.run([sys.executable, lesson], capture_output=True, text=True, check=True, timeout=120,
                         env=os.environ | {"PYTHONPATH": str(ROOT)})
    before, after = (float(line.split()[-1]) for line in run.stdout.splitlines() if line.startswith("perplexity"))
    assert after < before / 10


def test_every_lesson_has_a_promise():
    assert {lesson.stem[:2] for lesson in LESSONS} == set(PROMISED)
