"""The errata lab: what five study notes got wrong, what is right, and, where it can be run, what comes of it.

`ERRATA` holds the 34 rows. Thirteen carry a demonstration, a function of a random generator that runs the note's
statement as printed and as corrected, and returns numbers: what fails, and what does *not* fail, which is why the slip
is so easily missed. Its second argument is the printed form: hand it the corrected one, and nothing fails any more.

    print(find("E9"), find("E9").demonstrate(seed=0), sep="\n\n")
"""

from .demonstration import Demonstration
from .rows import ERRATA, NOTES, Erratum, errata_table, find

__all__ = ["ERRATA", "NOTES", "Demonstration", "Erratum", "errata_table", "find"]
