"""`relief data import`: frames, clouds, tables and annotations of other tools become the layout.

find.py, table.py: which files belong together, and what their folders or a table say of them;
annotations.py: masks of LabelMe and COCO; cameras.py: intrinsics in the forms of drivers;
write.py: the layout, by hard links where possible.
"""

from harness.data.importing.find import find, unused
from harness.data.importing.frames import Frame, Left
from harness.data.importing.write import calibrated, write

__all__ = ["Frame", "Left", "calibrated", "find", "unused", "write"]
