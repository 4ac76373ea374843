"""Views: what becomes of samples by the recipes of methods/views.py.

recipes.py says what there is and imports no library, build.py makes it.
"""

VERSION = 2  # raise when the same recipe gives other arrays
TRUTH_VERSION = 1  # ... when the same files give other masks (harness/data/truth.py)
