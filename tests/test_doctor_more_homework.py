"""The doctor and a second set of homework, by an author who had seen neither the doctor nor the first set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from students_more import STUDENTS, Student, example

from tinygrad_rnn import nn
from tinygrad_rnn.doctor import Case, Diagnosis, diagnose

# What each has really done, in the doctor's words: of all gradients that are wrong, or of those named (by the first
# letters, and all other wrong ones have the one without a name). None: no mistake that the doctor knows.
NAMED: dict[str, dict[str, str | None]] = {
    "astrid": {"": "overwritten in the loop: = for +="},
    "alma": {"W": "h_k where h_{k-1} is meant", "b": "overwritten in the loop: = for +="},
    "felix": {"": "y_{t+1} where y_t is meant"},
    "ayumi": {"": "softmax over the rows, with the maximum over the classes"},
    "filip": {"": "carry not reset between the rows"},
    "carmen": {"": "truncated in chunks of 2 steps"},  # in other words, and the same
    "hugo": {"": "mean for sum over the steps"},
    "heike": {"": None, "V": "mean for sum over the batch", "c": "mean for sum over the batch"},
    "ivan": {"": "φ' of the step before"},
    "iris": {"": "the carry taken before φ'", "W": "s_0 taken as 0 in the backward pass + the carry taken before φ'"},
    "jan": {"": "ReLU for its derivative"},
    "mateo": {"": "c_t for c_{t-1} in δz_f + W_o where its transpose is meant, in the carry"},
    "olga": {"": "c: 1-y for φ'"},
    "otto": {"": "later steps left out of δc in δz_f"},
    "lotte": {"": "c_{t-1} and c̃ exchanged in δz_f and δz_i"},
    "pilar": {"": "path into c_t through p_o missing",
              "p_f": "path into c_t through p_o missing + c_t for c_{t-1} at p_f, p_i"},
    "petra": {"": "c left out at the peepholes"},
    "piotr": {"": "c̃ missing in δz_i + path to c_{t-1} through p_i missing"},
    "perla": {"": "p_o's error sent to c_{t-1}"},
    "tomoko": {"": "z and 1-z exchanged in all of the backward pass"},
    "rui": {"": "r computed again from h_t"},
    "urs": {"": "h_t for h_{t-1} in δz_r"},
    "walid": {"": "W_u for W_n in the carry"},
    "yusuf": {"": "h' not put in the order of time, ε is"},
    "zack": {"": "h_{k+1} where h_{k-1} is meant, s_0 past the end"},
    "zeynep": {"": "one direction's gradient added to the other's"},
    "zlata": {"": "carry not reset between the directions"},
    "adele": {"": "the backward direction taken for one that runs forward"},
    "amir": {"": "h_0 for both directions"},
    "ylva": {"": "V for V' in the forward pass"},
    "zelda": {"": "φ' of the other direction's state",
              "W'": "φ' of the other direction's state + h_k where h_{k-1} is meant"},
    # the loss of step t weighed by t/T, in one direction: no one mistake, and these two give the same numbers
    "zuzana": {"": "a loss counted again for every later step + mean for sum over the steps"},
    "dimitra": {"": None}, "fatima": {"": None}, "lorenzo": {"": None}, "svetlana": {"": None},
}


def case_of(student: Student, seed: int) -> tuple[Case, dict[str, np.ndarray]]:
    params, xs, states, targets = example(student.kind, seed)
    D, H, rng, kind = xs.shape[2], states[0].shape[1], np.random.default_rng(0), student.kind
    layer: Any
    if kind == "birnn":
        layer = nn.RNN(D, H, bidirectional=True, rng=rng)
    elif kind.startswith("rnn"):
        layer = nn.RNNCell(D, H, nonlinearity=kind.removeprefix("rnn-"), rng=rng)
    elif kind.startswith("lstm"):
        layer = nn.LSTMCell(D, H, peepholes=kind == "lstm-peephole", rng=rng)
    elif kind == "gru-update":
        layer = nn.GRUCell(D, H, reset=None, update="u", rng=rng)
    else:
        layer = nn.GRUCell(D, H, reset=kind.removeprefix("gru-"), rng=rng)
    V = np.vstack([params["V"], params["V'"]]) if "V'" in params else params["V"]
    head = nn.Linear(*V.shape, rng=rng)
    for p in (*layer.parameters(), *head.parameters()):
        p.data = V if p.name == "V" else params[p.name]
    state = np.stack(states) if kind == "birnn" else states if len(states) > 1 else states[0]
    return Case(layer, head, xs, targets, state), student.run(params, xs, *states, targets)


def said(diagnosis: Diagnosis, name: str) -> str | None:
    return " or ".join(" + ".join(match.names) for match in diagnosis[name].matches) or None


@pytest.mark.parametrize("student", STUDENTS, ids=lambda student: student.run.__name__)
def test_every_student_is_told_what_is_wrong_with_each_gradient_and_nothing_else(student: Student) -> None:
    case, gradients = case_of(student, seed=3)
    truth, diagnosis = case.truth(), diagnose(case, gradients)
    wrong = [name for name, g in gradients.items() if np.abs(g - truth[name]).max() > 1e-8 * np.abs(truth[name]).max()]
    assert [finding.name for finding in diagnosis.findings if not finding] == wrong
    expected = NAMED.get(student.run.__name__, {})
    assert bool(expected) == bool(wrong) == bool(student.done)
    for name in wrong:
        assert said(diagnosis, name) == expected.get(name, expected.get("")), name
        assert (diagnosis[name].unknown is not None) == (said(diagnosis, name) is None)


def test_what_is_unknown_is_shown_by_its_worst_entries_and_compared_step_by_step() -> None:
    student = next(student for student in STUDENTS if student.run.__name__ == "dimitra")
    text = repr(diagnose(*case_of(student, seed=3)))
    assert text.count("wrong, by no mistake that the doctor knows") == 3 and text.count("cosine") == 3
    assert "handed in" in text and "A hint, no diagnosis" in text


def test_a_mistake_that_would_have_spoiled_gradients_that_are_right_is_said_to() -> None:
    student = next(student for student in STUDENTS if student.run.__name__ == "zuzana")
    diagnosis = diagnose(*case_of(student, seed=3))
    assert set(diagnosis["U'"].matches[0].spared) == {"U", "W", "b", "V", "V'", "c"}
    assert "In all of the code this would make" in " ".join(repr(diagnosis).split())


def test_the_second_homework_has_all_kinds() -> None:
    assert {student.kind for student in STUDENTS} >= {"rnn-tanh", "rnn-sigmoid", "rnn-relu", "lstm", "lstm-peephole",
                                                      "gru-after", "gru-before", "gru-update", "birnn"}
    assert {student.run.__name__ for student in STUDENTS if student.done} == NAMED.keys()
