"""Floor 5: a diagnosis as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bptt.tables import paragraph, table
from .cells import GRU, LSTM, RNN

if TYPE_CHECKING:
    from .diagnosis import Diagnosis, Finding, Match, Place, Unknown

NEAR = 1e-5  # of the largest entry: too far off for float64, too near for a mistake
MOST = 8  # explanations listed one by one


def report(d: Diagnosis) -> str:
    """What the case is, what is correct, then every mistake with what it has done to which gradients."""
    right = [f for f in d.findings if f]
    lines = [described(d)]
    if right or orientations(d):
        lines.append("")
    if right:
        lines.append(f"  correct: {', '.join(f.name for f in right)}   (to 1e-8 of the largest entry)")
    lines += [paragraph(note) for note in orientations(d)]
    groups: dict[tuple[tuple[str, ...], ...], list[Finding]] = {}
    for f in d.findings:
        if f.matches:
            groups.setdefault(tuple(match.names for match in f.matches), []).append(f)
    for found in groups.values():
        lines += ["", *explained(found)]
    unknown = [(f, f.unknown) for f in d.findings if f.unknown]
    if near := [(f.name, u.distance) for f, u in unknown if u.distance < NEAR]:
        lines += ["", *rounded(near)]
    for f, u in unknown:
        if u.distance >= NEAR:
            lines += ["", *unexplained(f, u)]
    if d and right:
        lines += ["", f"  {'All that was handed in' if len(right) > 1 else 'It'} is correct."]
    if d.unseen:
        lines += [paragraph("But this case would not have shown: "
                            f"{'; '.join(m.name for m in d.unseen[:MOST])}{'; …' * (len(d.unseen) > MOST)}. "
                            f"Try one with {d.why} as well.")]
    return "\n".join(lines)


def described(d: Diagnosis) -> str:
    m, (steps, batch) = d.case.model, d.case.means
    T, B, D = m.x.shape
    V, H = len(m.p["c"]), m.p["h_0"].shape[-1]
    kind = type(m.cell).__name__ + (f" ({m.cell.nonlinearity})" if isinstance(m.cell, RNN) else "")
    if m.cell == LSTM(peepholes=True):
        kind += " (peepholes)"
    if isinstance(m.cell, GRU):
        kind += f" ({m.cell.update}, {f'reset {m.cell.reset} the product' if m.cell.reset else 'no reset gate'})"
    both = ", both directions" if len(m.sides) == 2 else ""
    return (f"{kind}{both}, T={T}, B={B}, D={D}, H={H}, V={V}; E is the {'mean' if steps else 'sum'} over the steps "
            f"and the {'mean' if batch else 'sum'} over the batch")


def orientations(d: Diagnosis) -> list[str]:
    notes = [f.name for f in d.findings if f.orientation == "notes"]
    alone = [f.name for f in d.findings if f.alone]
    found = []
    if notes:
        found.append(f"{', '.join(notes)}: in the notes' orientation, (out, in), as z = W h has it; that is not wrong. "
                     "Here it is (in, out), z = h W.")
    if alone:
        found.append(f"{', '.join(alone)}: a square matrix, so nothing shows which orientation was meant. If it was "
                     "(in, out), the result is transposed.")
    return found


def explained(found: list[Finding]) -> list[str]:
    """The findings of several gradients that have the same explanations."""
    first = found[0]
    names = ", ".join(f.name for f in found)
    if len(first.matches) == 1:
        lines = [f"  {names}: {' + '.join(first.matches[0].names)}"]
    else:
        lines = [f"  {names}: one of {len(first.matches)}"]
    for match in first.matches[:MOST]:
        if len(first.matches) > 1:
            lines.append(f"    either: {' + '.join(match.names)}")
        if len(first.matches) <= 3:
            lines += [indented(f"{m.sentence} Read {m.equation}.") for m in match.mistakes]
    if len(first.matches) > MOST:
        lines.append(f"    … and {len(first.matches) - MOST} more")
    lines += [indented(told) for told in dict.fromkeys(f.tell for f in found) if told]
    for f in found:
        if f.others:
            lines.append(indented(f"{f.name} alone could also be: {listed(f.others)}; but that does not fit the other "
                                  "gradients as well."))
    for spared in dict.fromkeys(f.matches[0].spared for f in found if f.matches[0].spared):
        lines.append(indented(f"In all of the code this would make {', '.join(spared)} wrong too, which {are(spared)} "
                              "right: it was done for some gradients only, or something else gives the same numbers."))
    lines += [f"    first wrong, going back: {where(f.name, f.matches[0].place)}" for f in found]
    return lines


def are(names: tuple[str, ...]) -> str:
    return "are" if len(names) > 1 else "is"


def listed(matches: tuple[Match, ...]) -> str:
    names = [" + ".join(match.names) for match in matches]
    return "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def indented(text: str) -> str:
    return "\n".join("  " + line for line in paragraph(text).splitlines())


def element(name: str, entry: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, entry))}]"


def where(name: str, place: Place) -> str:
    what = f"step {place.step} gives" if place.step is not None else "the sum over the steps has"
    return f"{what} {element(name, place.entry)} {place.wrong:+.6g}; right is {place.right:+.6g}"


def rounded(near: list[tuple[str, float]]) -> list[str]:
    names, off = ", ".join(name for name, _ in near), max(off for _, off in near)
    return [f"  {names}: right to {off:.1g} of the largest entry, and no further",
            indented("That is what rounding to float32 leaves, or a difference quotient. Mistakes are told apart to "
                     "1e-8: compute in float64, from the numbers of the case to the last sum.")]


def unexplained(f: Finding, u: Unknown) -> list[str]:
    """No diagnosis: comparisons, and a hint that is called one."""
    lines = [f"  {f.name}: wrong, by no mistake that the doctor knows, alone or with a second one",
             *([indented("All its entries are numbers of float32. If it was computed in float32 its mistake cannot be "
                         "named, because mistakes are told apart to 1e-8: compute in float64.")] if u.single else []),
             f"    {u.agreeing} of {u.size} entries agree; ‖handed in‖ / ‖right‖ = {u.ratio:.6g}, "
             f"cosine {u.cosine:.6g}", "",
             table(["", "handed in", "right", "ratio"],
                   [[element(f.name, entry), f"{given:+.6g}", f"{true:+.6g}", f"{given / true:.6g}" if true else "–"]
                    for entry, given, true in u.worst])]
    if u.weights and u.residual < 1e-6:
        lines += ["", indented(
            "A hint, no diagnosis: of the true contributions A_k of the steps, "
            + ", ".join(f"{round(a, 6) + 0:g} · A_{k}" for k, a in u.weights.items())
            + " add up to it. A step whose factor is 0 is missing; one that is not 1 is weighed wrongly.")]
    elif u.weights:
        lines += ["", indented(f"A hint, no diagnosis: no weights of the true contributions of the steps add up to it "
                               f"(the best leave {100 * u.residual:.2g} % of it), so the contributions are wrong "
                               "themselves.")]
    if u.steps:
        entry = element(f.name, u.worst[0][0])
        lines += ["", indented(f"What each step should add to {entry}, going back: " + ", ".join(
            f"{added:+.6g} at step {k}" for k, added in reversed(u.steps.items()))
            + ". Print what yours adds: the first that differs is where to look.")]
    return lines
