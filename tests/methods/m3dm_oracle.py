"""M3DM once more, slow and plain, as published: one image at a time, every distance.

What the fast version is compared with, in results (tests) and in speed and memory (benchmark).
"""

import torch
import torch.nn.functional as F

from methods.m3dm.fusion import smooth_maps


def squared_distances(a, b):
    """a (N, 3), b (M, 3) -> (N, M), axis by axis"""
    return sum((a[:, None, i] - b[None, :, i]).square_() for i in range(3))


def grouped(xyz, count, size):
    """xyz (S, S, 3) -> centres (count, 3), neighbours relative to theirs (count, size, 3)"""
    points = xyz.flatten(0, 1)
    points = points[(points != 0).all(dim=1)]
    skipped = points.square().sum(dim=1) <= 1e-3
    nearest = torch.full([len(points)], 1e10).masked_fill_(skipped, -1)
    chosen = [0]
    for _ in range(count - 1):
        squared = (points - points[chosen[-1]]).square().sum(dim=1)
        nearest = torch.minimum(nearest, squared)
        chosen.append(int(nearest.argmax()))
    centres = points[chosen]
    index = squared_distances(centres, points).topk(size, dim=1, largest=False).indices
    return centres, points[index] - centres[:, None]


def point_tokens(encoder, groups):
    """The published mini-PointNet in training mode: groups (G, S, 3) -> (G, C)"""
    lift, norm1, _, local = encoder.first_conv
    mix, norm2, _, out = encoder.second_conv
    x = lift(groups.transpose(1, 2))
    x = local(F.relu(F.batch_norm(x, None, None, norm1.weight, norm1.bias, True)))
    whole = x.amax(dim=2, keepdim=True).expand(-1, -1, x.shape[2])
    x = mix(torch.cat([whole, x], dim=1))
    x = out(F.relu(F.batch_norm(x, None, None, norm2.weight, norm2.bias, True)))
    return x.amax(dim=2)


def extracted(rgb, xyz, images, points, groups, size):
    """Networks' outputs of one image (3, S, S), normalised, and its cloud (S, S, 3).

    images, points: the networks; their transformers are the same code for both versions.
    """
    centres, neighbours = grouped(xyz, groups, size)
    tokens = point_tokens(points.encoder, neighbours)[None]
    tapped = points.blocks(tokens, points.pos_embed(centres[None]), None, points.taps)
    features = torch.cat([points.norm(t)[0] for t in tapped], dim=1)
    return images(rgb[None])[0], centres, features


def interpolate(points, centres, features):
    """points (N, 3), centres (G, 3), features (G, C) -> (N, C), by sorting all distances."""
    squared, index = squared_distances(points, centres).sort(dim=1)
    weights = 1 / (squared[:, :3] + 1e-8)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return (features[index[:, :3]] * weights[..., None]).sum(dim=1)


def xyz_patches(xyz, centres, features, grid):
    """xyz (S, S, 3) -> (grid * grid, C), through the whole map of features."""
    flat = xyz.flatten(0, 1)
    pixel = (flat != 0).all(dim=1).nonzero()[:, 0]
    whole = torch.zeros(features.shape[1], len(flat))
    whole[:, pixel] = interpolate(flat[pixel], centres, features).T
    whole = whole.view(1, -1, *xyz.shape[:2])
    return F.adaptive_avg_pool2d(F.avg_pool2d(whole, 3, stride=1), grid)[0].flatten(1).T


def rgb_patches(tokens, grid):
    """tokens (C, g, g) -> (grid * grid, C)"""
    return F.adaptive_avg_pool2d(tokens[None], grid)[0].flatten(1).T


def coreset(z, count, half=False):
    """The published greedy loop."""
    last, chosen = z[:1], [0]
    nearest = torch.linalg.norm(z - last, dim=1, keepdim=True)
    if half:
        z, last, nearest = z.half(), last.half(), nearest.half()
    for _ in range(count - 1):
        nearest = torch.minimum(torch.linalg.norm(z - last, dim=1, keepdim=True), nearest)
        index = int(nearest.argmax())
        last = z[index : index + 1]
        nearest[index] = 0
        chosen.append(index)
    return torch.tensor(chosen)


def score(patches, bank, size, settings, eps=0.0, divisor=1.0):
    """Patches (P, C), bank (M, C) -> the image's score () and map (size, size) of one bank."""
    least, index = torch.cdist(patches, bank).min(dim=1)
    return score_of(least, index, patches, bank, size, settings, eps, divisor)


def score_of(least, index, patches, bank, size, settings, eps=0.0, divisor=1.0):
    """The same from the distance to the nearest row, and which that is (P,)."""
    worst = least.argmax()
    star = least[worst] / divisor
    around = torch.cdist(bank[index[worst]][None], bank).topk(settings.neighbours, largest=False)
    near = bank[around.indices[0, 1:]]
    root = patches.shape[1] ** 0.5
    spread = torch.exp((patches[worst] - near).norm(dim=1) / divisor / root).sum() + eps
    weight = 1 - torch.exp(star / root) / spread
    grid = round(len(least) ** 0.5)
    plain = F.interpolate(least.view(1, 1, grid, grid), size=(size, size), mode="bilinear")
    return weight * star, smooth_maps(plain[0], settings)[0]
