"""Floor 8: the verb `step`: a walk through the backward pass, op by op, with what each adds to whose gradient."""

from __future__ import annotations

import argparse
import cmd
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from textwrap import fill
from typing import Any

import numpy as np

from viz.graph import Graph

from .. import bptt
from ..bptt.tables import SHOWN, norm, path, table, use_label
from ..bptt.uses import Step, recurrence_of, step_of_use
from ..local import equation, jacobian, product, rule
from ..ops import Array
from ..steps import step_of
from ..sweep import order
from ..tensor import Tensor
from ..ticks import Flow, Tick, ticks
from .common import Adder, chosen, model_for, model_options, parameter_of, read, scene

COMMANDS = """\
Enter or n   the next operation
b            one back
t N          to step N: its next operation
w NAME       to the next contribution to a parameter: w W, w U_f, w b'; and all of them so far
g            to the end, where they are added up
p            where we are, once more
h            these commands
q            quit"""
WIDEST, NARROWEST = 108, 24
MOST = 6  # rows and columns of a local derivative that is shown as numbers
SAME = 1e-12  # of the largest element


def verbs(add: Adder) -> None:
    added = add("step", step, "Walk through the backward pass op by op: what each adds to which gradient.\n"
                "What comes in, the local derivative, what goes to whom, and how the contributions to a shared weight "
                "add up.\n\n" + COMMANDS,
                "tinygrad-rnn step --text hello --loss 4\n  printf 'w W\\nw W\\ng\\n' | tinygrad-rnn step --cell lstm "
                "--parameter W_f")
    model_options(added)


def step(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The walk, and all of it as data; good where its sums are what backward() leaves in every .grad."""
    model = model_for(options)
    losses, x, _ = read(model, options.text)
    t, parameter = chosen(options, losses), parameter_of(model, options.parameter)
    walk = Walk(losses[t - 1], model.parameters())
    if not options.json:
        cell = next(iter(model.layer.cells.values()))
        U, row = model.parameters()[0].name, int(x[0, 0])
        Session(walk, parameter, [*cell.equations().splitlines(), "q_t = V h_t + c",
                                  "E_t = -ln softmax(q_t)[the next character]",
                                  f"{U} x_t = {U}[w_t], the row that the character w_t picks: w₁ = "
                                  f"{options.text[0]!r} row {row}, so {U}[w₁] = {U}[{row}]"],
                f"{scene(options, model, t)}.").cmdloop()
    result = as_data(walk, t, options.text) if options.json or options.out else {}
    return result, not walk.differing


# ------------------------------------------------------------------------------------------------------------ the walk
class Walk:
    """The backward pass from one loss as far as it has been looked at, and what backward() gives, to compare with."""

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        self.loss, self.nodes, self.source = loss, order([loss]), ticks(loss)
        self.seen: list[Tick] = []
        loss.backward()
        self.parameters = [p for p in parameters if p.grad is not None]
        self.labels = Graph(loss, None, ()).labels

    def __getitem__(self, number: int) -> Tick:
        """Operation `number`, counted from 0: the sweep goes as far as it takes."""
        while len(self.seen) <= number:
            self.seen.append(next(self.source))
        return self.seen[number]

    def __len__(self) -> int:
        return len(self.nodes)

    def of(self, x: Tensor) -> str:
        """dE/dx, or W.grad of a parameter."""
        label = self.labels[x]
        return f"{label}.grad" if x.op is None else f"d{self.labels[self.loss]}/d{bracketed(label)}"

    def flows(self, parameter: Tensor, until: int) -> Iterator[tuple[int, Tensor, Flow]]:
        """The contributions to a parameter of the operations before `until`: number, operation, contribution."""
        for number in range(until):
            yield from ((number, self[number].node, flow) for flow in self[number].flows if flow.x is parameter)

    @cached_property
    def differences(self) -> dict[Tensor, float]:
        """By how much the sum of all contributions is off from what backward() gives, by its largest element."""
        found = {}
        for p in self.parameters:
            *_, (_, _, last) = self.flows(p, len(self))
            expected = np.asarray(p.grad)
            found[p] = float(np.abs(last.after - expected).max() / (np.abs(expected).max() or 1.0))
        return found

    @property
    def differing(self) -> list[str]:
        return [str(p.name) for p, error in self.differences.items() if not error <= SAME]


def bracketed(label: str) -> str:
    return f"({label})" if any(sign in label for sign in "+−∘/· ") else label


def as_data(walk: Walk, t: int, text: str) -> dict[str, Any]:
    """Every operation, every contribution and every sum, ready for JSON; what is not finite as null."""
    def numbers(a: Any) -> Any:
        if a is None:
            return None
        found = np.asarray(a, object)
        found[~np.isfinite(a)] = None
        return found.tolist()

    def flow_data(tick: Tick, flow: Flow) -> dict[str, Any]:
        return {"input": walk.labels[flow.x], "position": flow.position, "kind": flow.kind,
                "carries_the_state": flow.carried, "local_derivative": derivative_of(walk, tick.node, flow.position),
                "jacobian": numbers(dense(tick.node, flow.position)), "before": numbers(flow.before),
                "contribution": numbers(flow.contribution), "explicit": numbers(flow.explicit),
                "after": numbers(flow.after)}

    def tick_data(number: int, tick: Tick) -> dict[str, Any]:
        return {"number": number + 1, "op": tick.node.op.name, "equation": tick.node.op.equation,
                "result": walk.labels[tick.node], "where": dict(tick.node.scope), "kind": tick.kind,
                "incoming": numbers(tick.incoming), "edges": [flow_data(tick, flow) for flow in tick.flows]}

    sums = {p: [flow for *_, flow in walk.flows(p, len(walk))][-1].after for p in walk.parameters}
    return {"text": text, "t": t, "loss": numbers(walk.loss.data),
            "ticks": [tick_data(n, walk[n]) for n in range(len(walk))],
            "gradients": {str(p.name): {"sum": numbers(total), "backward": numbers(p.grad),
                                        "difference": numbers(walk.differences[p])} for p, total in sums.items()},
            "agrees": not walk.differing}


def derivative_of(walk: Walk, node: Tensor, position: int) -> str:
    return rule(node, position, walk.labels[node], [walk.labels[x] for x in node.inputs])


def dense(node: Tensor, position: int) -> Array | None:
    """The local derivative as a matrix, where it is small."""
    return jacobian(node, position) if max(node.size, node.inputs[position].size) <= MOST else None


# ------------------------------------------------------------------------------------------------------ what is said
class Page:
    """The lines that a reader sees."""

    def __init__(self, walk: Walk) -> None:
        self.walk, self.labels = walk, walk.labels
        self.E = walk.labels[walk.loss]
        self.paths: dict[Tensor, dict[Step, str]] = {}
        places = {pair for node in walk.nodes for pair in node.scope.items()}
        self.telling = {key for key, _ in places if sum(key == other for other, _ in places) > 1}

    @property
    def width(self) -> int:
        return min(max(shutil.get_terminal_size((WIDEST, 24)).columns, NARROWEST), WIDEST)

    def introduction(self, watched: Tensor, equations: list[str], scene: str) -> list[str]:
        uses = sum(watched in node.inputs for node in self.walk.nodes)
        W = watched.name
        return [scene, "", *(f"  {line}" for line in equations), "",
                f"{self.E} = {float(self.walk.loss.data):.4g} is the loss at step {step_of(self.walk.loss)}. The "
                f"forward pass has made it by {len(self.walk)} operations. The backward pass goes through them from "
                "the last to the first. What arrives at each is the gradient of its result; times its local "
                "derivative, that is what it adds to the gradient of each of its inputs.",
                "", f"{W} is one parameter, used {times(uses)} on the way to {self.E}: {W}.grad becomes a sum of "
                f"{uses}. Of a matrix one row is shown: the one with the largest number of its whole gradient or, "
                "where nothing is added to that, the one to which most is added.",
                f"  explicit: what comes straight from {self.E}, through no state of another step",
                "  implicit: what has come back through the states, from one step to another", "",
                f"Enter: the next operation.  w: the next one that adds to {W}.grad.  h: all commands."]

    def tick(self, number: int) -> list[str]:
        """One operation: its equation and place, what arrives, and what goes on to each of its inputs."""
        tick = self.walk[number]
        node = tick.node
        title = f"── {number + 1} of {len(self.walk)}, {self.place(node)} "
        names = [self.labels[x] for x in node.inputs]
        lines = [title.ljust(self.width, "─"), "", f"  {equation(node, self.labels[node], names)}",
                 f"    = {self.numbers(node.data)}", "",
                 f"  arrives  {self.walk.of(node)} = {self.numbers(tick.incoming)}  {tick.kind}"]
        for flow in tick.flows:
            lines += ["", *self.flow(tick, flow)]
        return lines

    def place(self, node: Tensor) -> str:
        """The step, and what else of the scope is not the same everywhere."""
        where = (f"{key} {value}" for key, value in node.scope.items() if key != "t" and key in self.telling)
        t = step_of(node)
        return ", ".join([f"step {t}" if t is not None else "outside the steps", *where])

    def flow(self, tick: Tick, flow: Flow) -> list[str]:
        node, x, label = tick.node, flow.x, self.labels[flow.x]
        y, weight = self.labels[node], flow.x.op is None
        D = derivative_of(self.walk, node, flow.position)
        J = dense(node, flow.position)
        g = self.walk.of(node)
        formula = product(node, flow.position, g, D)
        kind: str = flow.kind
        if kind == "both" and flow.explicit is not None:
            implicit = norm(flow.contribution - flow.explicit)
            kind = f"both, ‖explicit‖ = {norm(flow.explicit):.3g}, ‖implicit‖ = {implicit:.3g}"
        if flow.carried:
            kind = f"implicit, for it is the state of step {step_of(x)}, which step {step_of(node)} has read"
        elif weight:
            kind = f"{kind}, {use_label(step_of_use(node, x))}: {self.path_of(node, x)}"
        lines = [f"  → {label}  {kind}", f"    ∂{bracketed(y)}/∂{bracketed(label)} = {D}{self.shown(J)}"]
        if J is not None and is_matrix(J) and len(J[0]) <= self.most:
            lines += ["      " + self.row(entries) for entries in J]
        name = self.walk.of(x)
        if flow.before is None and not weight:
            return [*lines, f"    {name} = {formula}{' = ' * bool(formula)}{self.numbers(flow.contribution)}"]
        at, picked = self.picked(flow)
        before = "0" if flow.before is None else self.row(picked(flow.before), like=picked(flow.after))
        added = self.row(picked(flow.contribution), like=picked(flow.after))
        formula = formula and f"   {formula}"
        zero = "   exactly 0" + self.why(flow, node) if not flow.contribution.any() else ""
        name = f"    {name}{at}"
        return [*lines, f"{name}  {before}", f"{'+='.rjust(shown_width(name))}  {added}{zero or formula}",
                f"{'->'.rjust(shown_width(name))}  {self.row(picked(flow.after))}"]

    def path_of(self, node: Tensor, parameter: Tensor) -> str:
        """The term of the use of a parameter by an operation, as `explain` writes it."""
        if parameter not in self.paths:
            e = bptt.explain(self.walk.loss, parameter)
            through = recurrence_of(e.loss, parameter) if e.implicit.any() else None
            self.paths[parameter] = {k: path(e, k, through) for k in e.terms}
        return self.paths[parameter].get(step_of_use(node, parameter), "")

    def why(self, flow: Flow, node: Tensor) -> str:
        zero = [self.labels[y] for y in node.inputs if y is not flow.x and not y.data.any()]
        return f", for {zero[0]} = 0" if zero else ""

    def ledger(self, parameter: Tensor, until: int) -> list[str]:
        """The contributions to a parameter so far, and how they add up."""
        W, grad = parameter.name, np.asarray(parameter.grad)
        entry = np.unravel_index(int(np.abs(grad).argmax()), grad.shape)
        element = f"[{', '.join(str(int(i)) for i in entry)}]" * bool(entry)
        found = list(self.walk.flows(parameter, until))
        rows = [[str(number + 1), use_label(step_of_use(node, parameter)), flow.kind, self.path_of(node, parameter),
                 f"{norm(flow.contribution):.3g}", f"{flow.contribution[entry]:+.4g}", f"{flow.after[entry]:+.4g}"]
                for number, node, flow in found]
        if len(rows) > SHOWN:
            rows[4:-6] = [["…"] * len(rows[0])]
        uses = [step_of_use(node, parameter) for node in self.walk.nodes for x in node.inputs if x is parameter]
        if not found:
            return [f"Nothing has been added to {W}.grad yet; {len(uses)} contributions are to come."]
        if len(found) == len(uses):
            total = found[-1][2].after
            explicit = sum((f.explicit for *_, f in found if f.explicit is not None), start=np.zeros_like(total))
            for kind, part in (("explicit", explicit), ("implicit", total - explicit)):
                rows.append(["", "all", kind, "", f"{norm(part):.3g}", f"{part[entry]:+.4g}", ""])
            rows.append(["", "all", "", f"d{self.E}/d{W}", f"{norm(total):.3g}", "", f"{total[entry]:+.4g}"])
        head = ["op", "use", "kind", "term", "‖·‖", f"adds to {element}".removesuffix(" to "), f"{W}.grad{element}"]
        left = list(map(use_label, uses[len(found):]))
        rest = f"{len(left)} still to come: {', '.join(left[:4])}{', …' * (len(left) > 4)}." if left else \
            "That is all of them. Numbers add up, norms do not."
        zeros = [(node, flow) for _, node, flow in found if not flow.contribution.any()]
        for node, flow in zeros[:3]:
            rest += f" {use_label(step_of_use(node, parameter))} adds exactly 0{self.why(flow, node)}."
        return [f"{W}.grad is a sum over the uses of {W}: {len(found)} of {len(uses)} so far", "",
                *self.fitting(head, rows), "", f"  {rest}"]

    def fitting(self, head: list[str], rows: list[list[str]]) -> list[str]:
        """A table without the columns for which the terminal is too narrow."""
        for kept in (range(7), (0, 1, 2, 4, 5, 6), (1, 2, 5, 6), (1, 2, 5), (1, 5)):
            lines = table([head[i] for i in kept], [[row[i] for i in kept] for row in rows],
                          left=tuple(place for place, i in enumerate(kept) if i in (1, 2, 3))).splitlines()
            if max(map(len, lines)) <= self.width:
                break
        return lines

    def verdict(self) -> list[str]:
        walk = self.walk
        if walk.differing:
            return [f"{p.name}.grad IS NOT what backward() gives: off by {error:.1e} of its largest element."
                    for p, error in walk.differences.items() if p.name in walk.differing]
        worst = max(walk.differences.values())
        return [f"The sums are what backward() leaves in .grad of {walk.parameters[0].name} … "
                f"{walk.parameters[-1].name}, {len(walk.parameters)} parameters: "
                f"{f'the largest difference is {worst:.1e}' if worst else 'every bit is the same'}."]

    # --------------------------------------------------------------------------------------------------- numbers
    @property
    def most(self) -> int:
        """How many numbers go on a line."""
        return max(1, min(MOST, (self.width - 24) // 8))

    def numbers(self, a: Array) -> str:
        """A vector, or a batch of one, as its numbers; a matrix as its shape and norm."""
        if a.size == 1:
            return self.row(a.ravel())[1:-1]
        if a.size != a.shape[-1]:
            return f"{' × '.join(map(str, a.shape))} numbers, ‖·‖ = {norm(a):.3g}"
        return self.row(a.ravel())

    def row(self, entries: Array, like: Array | None = None) -> str:
        """Numbers in columns, so that rows under one another can be added up by eye."""
        size = np.abs(entries if like is None else like).max(initial=0.0)
        form = "+.4f" if 0.01 <= size < 1000 or size == 0 else "+.2e"
        texts = [f"{float(x) + 0:{form}}" for x in entries[:self.most]]  # no -0
        return f"[{' '.join(texts)}{' …' * (len(entries) > self.most)}]"

    def shown(self, J: Array | None) -> str:
        """The local derivative as numbers on the same line: a diagonal, or the only row."""
        if J is None or is_matrix(J) or np.array_equal(abs(J), np.eye(*J.shape)):
            return ""
        if len(J) == len(J[0]) > 1:
            return f" = diag{self.row(J.diagonal())}"
        return f" = {self.numbers(J)}"

    def picked(self, flow: Flow) -> tuple[str, Any]:
        """Of a matrix the row with the largest element of the whole gradient; of a contribution elsewhere, of that."""
        a = flow.after
        if a.size == a.shape[-1] if a.ndim else True:
            return "", np.ravel
        whole = np.asarray(flow.x.grad if flow.x.grad is not None else a)
        rows = [int(np.abs(b).reshape(-1, a.shape[-1]).max(1).argmax()) for b in (whole, flow.contribution)]
        elsewhere = flow.contribution.any() and not flow.contribution.reshape(-1, a.shape[-1])[rows[0]].any()
        row = rows[bool(elsewhere)]
        return f"[{row}]", lambda b: b.reshape(-1, a.shape[-1])[row]


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def is_matrix(J: Array) -> bool:
    """Is there more to it than a diagonal or one row?"""
    return len(J) > 1 and not (J.shape[0] == J.shape[1] and np.array_equal(J, np.diag(J.diagonal())))


def shown_width(text: str) -> int:
    return sum(not unicodedata.combining(letter) for letter in text)


def painted(text: str) -> str:
    """With the colours of a terminal: the two kinds, and the title."""
    text = re.sub(r"^──.*$", "\x1b[1m\\g<0>\x1b[0m", text, flags=re.M)
    text = re.sub(r"\bexplicit\b", "\x1b[36mexplicit\x1b[0m", text)
    return re.sub(r"\bimplicit\b", "\x1b[33mimplicit\x1b[0m", text)


# --------------------------------------------------------------------------------------------------- in the terminal
class Session(cmd.Cmd):
    """One reader at a terminal, or commands from a pipe."""

    def __init__(self, walk: Walk, watched: Tensor, equations: list[str], scene: str) -> None:
        super().__init__()
        self.walk, self.watched, self.equations, self.scene = walk, watched, equations, scene
        self.page = Page(walk)
        self.at = -1  # before the first operation
        self.added_up = False
        self.live = sys.stdin.isatty()
        self.colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def prompt(self) -> str:  # type: ignore[override]
        return f"\n{self.at + 1}/{len(self.walk)}> "

    def say(self, *lines: str) -> None:
        for line in lines:
            indent = " " * (len(line) - len(line.lstrip()) + 2) * line.startswith(" ")
            wrapped = fill(line, self.page.width, subsequent_indent=indent, break_on_hyphens=False)
            print(painted(wrapped) if self.colours else wrapped)

    # ----------------------------------------------------------------------------------------------------- commands
    def preloop(self) -> None:
        self.say(*self.page.introduction(self.watched, self.equations, self.scene))

    def precmd(self, line: str) -> str:
        if not self.live:
            print(line if line != "EOF" else "")  # as the reader of a terminal sees what was typed
        return line.strip()

    def postloop(self) -> None:
        if not self.added_up:
            self.say(*self.page.verdict())

    def emptyline(self) -> bool:
        return self.do_n("")

    def do_n(self, argument: str) -> bool:
        if self.refuses(argument):
            return False
        if self.at == len(self.walk) - 1:
            return self.do_g("")
        return self.go(self.at + 1)

    def do_b(self, argument: str) -> bool:
        if self.refuses(argument):
            return False
        if self.at < 0:
            return self.told("Nothing is behind us: the backward pass has not begun.")
        self.at -= 1
        return self.do_p("")

    def do_t(self, argument: str) -> bool:
        ahead = [(number, step_of(node)) for number, node in enumerate(self.walk.nodes) if number > self.at]
        steps = list(dict.fromkeys(str(t) for _, t in ahead if t is not None))
        if argument not in steps:
            there = f"ahead are operations of step {', '.join(steps)}" if steps else "no step is ahead"
            return self.told(f"t {argument}: {there}. b goes back." if argument else f"t N: to which step? {there}.")
        return self.go(next(number for number, t in ahead if str(t) == argument))

    def do_w(self, argument: str) -> bool:
        known = {str(p.name): p for p in self.walk.parameters}
        if argument and argument not in known:
            return self.told(f"w {argument}: {self.walk.labels[self.walk.loss]} is made with {', '.join(known)}.")
        self.watched = known[argument] if argument else self.watched
        readers = (number for number, node in enumerate(self.walk.nodes) if self.watched in node.inputs)
        number = next((number for number in readers if number > self.at), None)
        if number is None:
            self.say(f"No more contributions to {self.watched.name} are ahead.")
        else:
            self.go(number)
        self.say("", *self.page.ledger(self.watched, self.at + 1))
        return False

    def do_g(self, argument: str) -> bool:
        if self.refuses(argument):
            return False
        self.at, self.added_up = len(self.walk) - 1, True
        self.say(*self.page.ledger(self.watched, self.at + 1), "", *self.page.verdict())
        return False

    def do_p(self, argument: str) -> bool:
        if not self.refuses(argument):
            self.say(*(self.page.tick(self.at) if self.at >= 0 else
                       self.page.introduction(self.watched, self.equations, self.scene)))
        return False

    def do_h(self, argument: str) -> bool:
        self.say(*COMMANDS.splitlines())
        return False

    def do_help(self, arg: str) -> bool:  # as ? is read
        return self.do_h(arg)

    def do_q(self, argument: str) -> bool:
        return not self.refuses(argument)

    def do_EOF(self, argument: str) -> bool:
        if self.live:
            print()
        return True

    def default(self, line: str) -> bool:  # type: ignore[override]
        return self.told(f"{line!r} is no command here. Enter goes on, h lists the commands.")

    # ------------------------------------------------------------------------------------------------------ helpers
    def refuses(self, argument: str) -> bool:
        if argument:
            self.say(f"{argument!r}: this command takes nothing more. h lists the commands.")
        return bool(argument)

    def told(self, text: str) -> bool:
        self.say(text)
        return False

    def go(self, number: int) -> bool:
        self.at = number
        return self.do_p("")
