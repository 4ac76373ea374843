"""Shape-Guided once more, slow and plain: one patch, one query, one pixel at a time.

The order of work of the published code (methods/shape_guided/README.md, sections 2.2 and 5): the
weights are those of a method of ours, the networks run patch by patch and the feature is tiled over
a patch's points; distances to the banks are one product a sample there too. What the batched
version is compared with, in results (tests) and in speed (benchmark). Default settings only.
"""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from sklearn.decomposition import sparse_encode


def farthest(points, count, start):
    nearest, centres = np.full(len(points), 1e10, np.float32), []
    for _ in range(count):
        centres.append(start)
        nearest = np.minimum(nearest, ((points - points[start]) ** 2).sum(-1))
        start = int(nearest.argmax())
    return centres


def cut(xyz, K, r, start_of):
    """Patches as pairs of points (K, 3) and pixel ids (K,)."""
    flat = xyz.reshape(-1, 3)
    ids = np.flatnonzero((flat != 0).all(axis=1))
    points = flat[ids]
    points = (points - points.min(0)) / (points[:, 0].max() - points[:, 0].min())
    found = []
    for centre in farthest(points, round(len(points) * r / K), start_of(len(ids))):
        order = np.argsort(((points - points[centre]) ** 2).sum(-1), kind="stable")[:K]
        found.append((points[order], ids[order]))
    return found


def normalised(patch):
    scaled = patch * (1 / (patch.max(0) - patch.min(0)).max())
    return torch.from_numpy(scaled - scaled.mean(0))


def cells(pixels, size):
    grid = size // 8
    base = np.unique(pixels // size // 8 * grid + pixels % size // 8)
    moved = np.concatenate([base + 2, base - 2, base + 2 * grid, base - 2 * grid])
    moved[moved < 0] = moved.max()
    moved[moved > grid * grid - 1] = moved.min()
    return np.unique(moved)


def sparse(query, atoms):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pursuits that end early
        code = sparse_encode(
            query[None].double().numpy(),
            atoms.double().numpy(),
            algorithm="omp",
            n_nonzero_coefs=3,
            alpha=1e-10,
        )
    return torch.from_numpy(code).float() @ atoms


def signed_distances(nif, feature, queries):
    """feature (1, F), queries (1, K, 3) -> (1, K), every layer on every point."""
    tiled = feature[:, None].repeat(1, queries.shape[1], 1)  # (1, K, F)
    a, h = F.relu(nif.fc1(tiled)), F.relu(nif.fc2(queries))
    h = F.relu(nif.fc3(torch.cat([h, a], dim=2)))
    for i in range(nif.depth):
        h = F.relu(getattr(nif, f"fc4{i}")(h))
    return nif.fc5(h)[..., 0]


def blur(scores, radius_px=4):
    top = scores.max()
    if top == 0:
        return scores
    image = Image.fromarray((255 * scores / top).astype(np.uint8))
    return np.array(image.filter(ImageFilter.GaussianBlur(radius_px))) / 255 * top


class Plain:
    """networks: of a fitted method of ours; start_of: number of points -> first centre."""

    def __init__(self, shape, appearance, settings, start_of):
        self.shape, self.appearance, self.settings = shape, appearance, settings
        self.start_of = start_of

    @torch.no_grad()
    def look(self, image, xyz):
        """image (3, S, S), xyz (S, S, 3) -> patches [(points, ids)], shape and RGB features."""
        rule = self.settings.patches
        patches = cut(xyz, rule.points, rule.overlap, self.start_of)
        points = [(normalised(p), ids) for p, ids in patches]
        shape = torch.cat([self.shape.encoder(p[None]) for p, _ in points])
        return points, shape, self.appearance(image[None])[0]

    def remember(self, samples):
        shapes, rgb, dictionaries = [], [], []
        for i, (image, xyz) in enumerate(samples):
            points, shape, features = self.look(image, xyz)
            shapes.append(shape)
            rgb.append(features)
            for _, ids in points:
                dictionaries.append(cells(ids, xyz.shape[0]) + i * len(features))
        used = np.unique(np.concatenate(dictionaries))
        row_of = np.full(len(rgb) * len(rgb[0]), -1)
        row_of[used] = np.arange(len(used))
        self.sdf, self.rgb = torch.cat(shapes), torch.cat(rgb)[torch.from_numpy(used)]
        self.dictionaries = [row_of[d] for d in dictionaries]

    @torch.no_grad()
    def maps(self, looked, size, leave_out=False, implicit=signed_distances):
        """Maps (S, S) and scores of both modalities. looked: what `look` returned."""
        points, shape, features = looked
        kept = slice(1, None) if leave_out else slice(None, -1)
        sdf, s_sdf, neighbours = np.zeros(size * size), 0.0, []
        nearest = torch.cdist(shape, self.sdf).topk(11, largest=False).indices[:, kept]
        for (patch, ids), f, rows in zip(points, shape, nearest):
            neighbours += rows.tolist()
            made = sparse(f, self.sdf[rows])
            s_sdf = max(s_sdf, (f - made[0]).norm().item())
            signed = implicit(self.shape.NIF, made, patch[None])[0]
            for pixel, value in zip(ids.tolist(), signed.abs().tolist()):
                if sdf[pixel] == 0 or value < sdf[pixel]:
                    sdf[pixel] = value
        rows = np.unique(np.concatenate([self.dictionaries[n] for n in set(neighbours)]))
        dictionary = self.rgb[torch.from_numpy(rows)]
        foreground = np.unique(np.concatenate([cells(ids, size) for _, ids in points]))
        queries = features[torch.from_numpy(foreground)]
        found = torch.cdist(queries, dictionary).topk(6, largest=False).indices[:, kept]
        scores = torch.zeros(len(features))
        for cell, query, atoms in zip(foreground, queries, found):
            scores[cell] = (query - sparse(query, dictionary[atoms])[0]).norm()
        grid = size // 8
        rgb = F.interpolate(scores.view(1, 1, grid, grid), size=size, mode="bilinear")[0, 0]
        maps = {"sdf": sdf.reshape(size, size), "rgb": rgb.numpy()}
        return maps, {"sdf": s_sdf, "rgb": scores.max().item()}

    def align(self, samples):
        looked = [self.look(*sample) for sample in samples]
        maps = [self.maps(x, xyz.shape[0], True)[0] for x, (_, xyz) in zip(looked, samples)]
        rgb, sdf = (np.concatenate([blur(m[n]).ravel() for m in maps]) for n in ("rgb", "sdf"))
        rgb, sdf = rgb[rgb != 0], sdf[sdf != 0]
        self.a = sdf.std() / rgb.std()
        self.b = (sdf.mean() - 3 * sdf.std()) - self.a * (rgb.mean() - 3 * rgb.std())

    def predict(self, image, xyz):
        return self.judge(self.look(image, xyz), xyz.shape[0])

    def judge(self, looked, size, implicit=signed_distances):
        fused, score = self.fuse(*self.maps(looked, size, implicit=implicit))
        return blur(fused), score

    def fuse(self, maps, scores):
        fused = np.maximum(np.maximum(self.a * maps["rgb"] + self.b, 0), maps["sdf"])
        return fused, scores["sdf"] * scores["rgb"]
