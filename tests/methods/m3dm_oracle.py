"""M3DM once more, slow and plain, as published: one image at a time, every distance.

What the fast version is compared with, in results (tests) and in speed and memory (benchmark).
"""

import torch
import torch.nn.functional as F

from methods.m3dm.fusion import smooth_maps


def interpolate(points, centres, features):
    """points (N, 3), centres (G, 3), features (G, C) -> (N, C), by sorting all distances."""
    squared = (points[:, None] - centres).square().sum(2)
    squared, index = squared.sort(dim=1)
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
    distances = torch.cdist(patches, bank)
    least, index = distances.min(dim=1)
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
