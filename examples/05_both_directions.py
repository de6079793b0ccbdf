"""What does a second direction see? The article before a word, "a" or "an", is decided by the letter after it.

Every article in Python's language reference is hidden, and a network that tags each character has to tell which one it
was. In one direction it knows only what came before, which says next to nothing; in both it reads the next letter too.
The other side of it: where the target is the next symbol, a bidirectional network has read the answer (leakage).
"""

import numpy as np

from tinygrad_rnn import functional, nn
from tinygrad_rnn.models import Cloze, ManyToMany
from tinygrad_rnn.optim import Adam
from tinygrad_rnn.text import HIDDEN, Vocabulary, articles, language_reference


def train(model, batches):
    optimizer = Adam(model.parameters(), lr=2e-2)
    for x, y in batches:
        optimizer.zero_grad()
        (functional.stack(model.losses(x, y)).sum() / y.size).backward()
        optimizer.step()


# Windows of text (T, B): six characters, the hidden article, four characters. Tags: 0 no article, 1 "a", 2 "an".
windows, which = articles(language_reference())
AT = windows[0].index(HIDDEN)
vocabulary = Vocabulary.of("".join(windows))
x = np.stack([vocabulary.encode(window) for window in windows], axis=1)
y = np.zeros_like(x)
y[AT] = which
cut = len(windows) * 9 // 10
known = set(windows[:cut])
new = [b for b in range(cut, len(windows)) if windows[b] not in known]  # a text repeats itself: count only what is new

print(f"{len(windows)} articles; the tests are {len(new)} of the last tenth whose surroundings are new")
print(f'always "a":          {np.mean(y[AT, new] == 1):6.1%} right')
for bidirectional in (False, True):
    rng = np.random.default_rng(0)
    model = ManyToMany(nn.GRU(len(vocabulary), 8, bidirectional=bidirectional, rng=rng), classes=3, rng=rng)
    parts = [part for _ in range(8) for part in np.array_split(rng.permutation(cut), cut // 32)]
    train(model, [(x[:, part], y[:, part]) for part in parts])
    q = model(x[:, new]).data[AT]
    print(f"{'both directions' if bidirectional else 'one direction'}:".ljust(20),
          f"{np.mean(q.argmax(-1) == y[AT, new]):6.1%} right")
for b in new[:4]:
    article = ("", "a", "an")[model(x[:, [b]]).data[AT, 0].argmax()]
    print(f"   …{windows[b][:AT]}[{article}] {windows[b][AT + 1:]}…")

# Symbols drawn by lot: nobody can foresee them, so a perplexity below 4 means that the target has been seen.
print("\nperplexity on random symbols of 4 kinds, which no honest reader beats 4.00 on:")
T = 6
for name, wiring, bidirectional, ahead in [("the next one, one direction", ManyToMany, False, 1),
                                           ("the next one, both directions", ManyToMany, True, 1),
                                           ("the missing one, both sides", Cloze, True, 0)]:
    rng = np.random.default_rng(0)
    model = wiring(nn.RNN(4, 16, bidirectional=bidirectional, rng=rng), 4, rng=rng)
    draws = (rng.integers(4, size=(T + ahead, 32)) for _ in range(250))
    train(model, ((w[:T], w[ahead:]) for w in draws))
    w = rng.integers(4, size=(T + ahead, 2000))
    leak = "  <- it has read its targets" if bidirectional and ahead else ""
    print(f"   {name}:".ljust(35), f"{functional.perplexity(model(w[:T]), w[ahead:]):.2f}{leak}")
