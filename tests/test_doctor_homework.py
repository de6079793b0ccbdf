"""The doctor and the homework, which were written without knowledge of each other: what it says to each student."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from students import STUDENTS, Student, example

from tinygrad_rnn import nn
from tinygrad_rnn.doctor import Case, Diagnosis, diagnose

NAMED = {  # what each has really done, in the doctor's words; who is not here has made no mistake
    "david": "only the explicit term", "emma": "truncated to 3 steps (sliding window)", "felix": "only the last loss",
    "greta": "h_k where h_{k-1} is meant", "hugo": "the carry taken before φ'",
    "ines": "W where Wᵀ is meant, in the carry", "jonas": "1-h for φ'", "karla": "(1-h)² for φ'",
    "lars": "mean for sum over the steps", "mia": "the opposite sign", "nils": "overwritten in the loop: = for +=",
    "olga": "transposed", "quinn": "only the last loss + mean for sum over the batch",
    "carmen": "direct path of the cell missing", "dario": "f left out of the direct path",
    "edith": "c_t for c_{t-1} in δz_f", "fritz": "tanh' of c missing", "gerda": "o: σ' of the gate f",
    "heinz": "gates f and i exchanged", "ilse": "path through o missing in the carry + mean for sum over the batch",
    "lotte": "f_t where f_{t+1} is meant", "oskar": "direct path of the state missing",
    "petra": "reset gate ignored in the carry", "ralf": "reset gate ignored in W_n's gradient",
    "sonja": "reset gate on the other side of the product, going back",
    "ulli": "z and 1-z exchanged + b_hn missing in δz_r", "willi": "path through u missing in the carry",
    "cosima": "errors carried the wrong way through time", "detlef": "h_{k+1} where h_{k-1} is meant",
    "elsa": "x not put in the backward direction's order", "gustav": "only the explicit term",
    "sven": "carry not reset between the rows",
}


def case_of(student: Student, seed: int) -> tuple[Case, Any]:
    weights, x, y, first = example(student.cell, seed=seed, T=6)
    D, H, rng = x.shape[2], first["h_0"].shape[1], np.random.default_rng(0)
    layer: Any = {"rnn": lambda: nn.RNNCell(D, H, rng=rng), "lstm": lambda: nn.LSTMCell(D, H, rng=rng),
                  "gru": lambda: nn.GRUCell(D, H, rng=rng),
                  "gru-update": lambda: nn.GRUCell(D, H, reset=None, update="u", rng=rng),
                  "birnn": lambda: nn.RNN(D, H, bidirectional=True, rng=rng)}[student.cell]()
    V = np.vstack([weights["V"], weights["V'"]]) if "V'" in weights else weights["V"]
    head = nn.Linear(len(V), weights["c"].size, rng=rng)
    for p in (*layer.parameters(), *head.parameters()):
        p.data = V if p.name == "V" else weights[p.name]
    state = {"lstm": lambda: (first["h_0"], first["c_0"]),
             "birnn": lambda: np.stack([first["h_0"], first["h_0'"]])}.get(student.cell, lambda: first["h_0"])()
    return Case(layer, head, x, y, state), student.run(weights, x, y, first)


def said(diagnosis: Diagnosis) -> set[str]:
    return {" + ".join(match.names) for finding in diagnosis.findings for match in finding.matches}


@pytest.mark.parametrize("student", STUDENTS, ids=lambda student: student.name)
def test_every_student_is_told_what_is_wrong_and_nothing_else(student: Student) -> None:
    diagnosis = diagnose(*case_of(student, seed=3))
    if student.mistakes:
        assert not diagnosis and NAMED[student.name] in said(diagnosis)
        assert all(NAMED[student.name].startswith(other) or other in NAMED[student.name] for other in said(diagnosis))
    else:
        assert diagnosis and not said(diagnosis)


def test_the_homework_has_all_kinds() -> None:
    assert {student.name for student in STUDENTS if student.mistakes} == NAMED.keys()
    assert sum(not student.mistakes for student in STUDENTS) >= 8 and len(STUDENTS) >= 40
