"""Which files a dataset may have, by the ends of their names, and what their values may be."""

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy")
DEPTHS = (".png", ".tif", ".tiff", ".npy")
CLOUDS = (".tiff", ".tif", ".npy", ".ply", ".pcd")
LOSSY = (".jpg", ".jpeg")
BITS = (8, 10, 12, 14, 16)  # of cameras, a colour
NONFINITE = ("error", "missing")  # what NaN and infinite points of a cloud are
