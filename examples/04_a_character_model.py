"""A character RNN on real text, with nothing to download: the Zen of Python, learned by heart.

`tinygrad-rnn tour` does the same with the language reference, beside n-gram baselines.
"""

import codecs
import contextlib
import io

import numpy as np

from tinygrad_rnn.language import CharRNN, generate, perplexity, train
from tinygrad_rnn.text import Vocabulary

with contextlib.redirect_stdout(io.StringIO()):  # importing it prints it
    import this

text = codecs.decode(this.s, "rot13")
vocabulary = Vocabulary.of(text)
ids = vocabulary.encode(text)
model = CharRNN(vocabulary, hidden_size=64, rng=np.random.default_rng(0))

print(f"{len(text)} characters of {len(vocabulary)} kinds")
print(f"perplexity before: {perplexity(model, ids):6.2f}")
train(model, ids, epochs=150, batch_size=4)
print(f"perplexity after:  {perplexity(model, ids):6.2f}")
print("Beautiful" + "".join(generate(model, "Beautiful", 120)))
