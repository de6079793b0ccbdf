"""How does one sequence become another of a different length? Dates, from "14 May" to "05-14", letter by letter.

One network reads; its last state is where another one starts, which writes until it writes the end. While it learns it
reads the right symbol before each one (teacher forcing); afterwards it reads its own. At the end, what a loss of the
writer owes to each letter read: every path from the reader's weights to it leads through the states in between.
"""

import calendar

import numpy as np

from tinygrad_rnn import bptt, functional, nn
from tinygrad_rnn.models import EncoderDecoder
from tinygrad_rnn.optim import Adam, clip_grad_norm_
from tinygrad_rnn.text import Vocabulary

END = "\n"
days = [(month, day) for month in range(1, 13) for day in range(1, calendar.monthrange(2000, month)[1] + 1)]
read = [f"{day} {calendar.month_name[month]}" for month, day in days]
write = [f"{month:02}-{day:02}{END}" for month, day in days]
letters, digits = Vocabulary.of("".join(read)), Vocabulary.of("".join(write))
lengths = np.array([len(text) for text in read])
x = np.stack([letters.encode(text.ljust(max(lengths))) for text in read], axis=1)  # blanks after the end, never read
y = np.stack([digits.encode(text) for text in write], axis=1)
end = int(digits.encode(END)[0])

rng = np.random.default_rng(0)
order = rng.permutation(len(days))
train, test = order[60:], order[:60]
model = EncoderDecoder(nn.GRU(len(letters), 32, rng=rng), nn.GRU(len(digits), 32, rng=rng), start=end, end=end, rng=rng)
optimizer = Adam(model.parameters(), lr=1e-2)


def written(rows):
    return [digits.decode(ids) for ids in model.generate(x[:, rows], 10, lengths[rows])]


def right(rows):
    return np.mean([text + END == write[b] for b, text in zip(rows, written(rows))])


print(f"{len(train)} dates to learn from, {len(test)} others to test")
for step in range(601):
    if step % 150 == 0:
        print(f"after {step:3} steps: {right(test):6.1%} of the others right")
    batch = rng.choice(train, 64)
    loss = functional.stack(model.losses(x[:, batch], y[:, batch], lengths[batch])).sum() / y[:, batch].size
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_(optimizer.parameters, 1.0)
    optimizer.step()
for b, text in zip(test[:4], written(test[:4])):
    print(f"   {read[b]:>12} -> {text}" + f"   (it is {write[b].strip()})" * (text + END != write[b]))

b = test[0]
losses = model.losses(x[:lengths[b], [b]], y[:, [b]])
a = bptt.terms(losses, model.encoder.cells["l0"].U_n)
print("\nWhat each letter read adds to the gradient of the reader's U_n, by symbol written: ‖A[t,k]‖ in %")
print("      " + "".join(f"{letter:>5}" for letter in read[b]))
for symbol, row in zip(write[b].strip(), a.norms):
    print(f"   {symbol}: " + "".join(f"{100 * share:5.0f}" for share in row / row.sum()))
proof = bptt.prove(bptt.explain(losses[0], a.parameter))
print(f"The first row is {'proved' if proof else 'NOT PROVED'} by {len(proof.witnesses)} witnesses.")
