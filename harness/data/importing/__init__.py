"""`relief data import`: frames, clouds, tables and annotations of other tools become the layout.

find.py: which files belong together, and what their folders or a table say of them;
annotations.py: masks of LabelMe and COCO; cameras.py: intrinsics in the forms of drivers;
write.py: the layout, by hard links where possible.
"""

from harness.data.importing.find import Frame, Left, find
from harness.data.importing.write import write

__all__ = ["Frame", "Left", "find", "write"]
