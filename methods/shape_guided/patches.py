"""Cutting a cloud into overlapping patches (methods/shape_guided/README.md, section 1)."""

from __future__ import annotations

import torch

from methods.blocks.at_once import starts_fast
from methods.blocks.points import farthest, squared_distances
from methods.blocks.transfer import sent
from methods.seeds import seed_for
from methods.shape_guided.settings import Patches


def foreground(xyz: torch.Tensor) -> torch.Tensor:
    """Pixel ids (N,) of the points of xyz (S, S, 3): those without a zero coordinate."""
    return (xyz != 0).all(dim=-1).flatten().nonzero()[:, 0]


def scaled(points: torch.Tensor) -> torch.Tensor:
    """The cloud (N, 3) from 0 on, every axis in units of the extent along x."""
    low = points.amin(dim=0)
    return _moved(points, low, points[:, 0].amax() - low[0])


def _moved(points, low, extent):
    return (points - low) / torch.where(extent > 0, extent, 1)


def number_of_patches(count: int, patches: Patches) -> int:
    return max(1, round(count * patches.overlap / patches.scaled.points))


def first_centre(count: int, seed: int) -> int:
    """Index of the first centre among `count` points.

    Drawn by seed and count alone, so that a sample is cut the same way whatever its name is.
    """
    return seed_for("farthest", seed, count) % count


def cut(points: torch.Tensor, patches: Patches, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Farthest centres and the K nearest points of each.

    points (N, 3), start: index of the first centre -> centres (P,), members (P, K), both int64
    indices, members in ascending distance. Clouds of fewer than K points repeat them.
    """
    patches = patches.scaled
    centres, distances = farthest_centres(points, number_of_patches(len(points), patches), start)
    members = _nearest(distances, patches.points)
    if not patches.cover:
        return centres, members
    nearest = distances.amin(dim=0)  # (N,) to any centre
    covered = torch.zeros(len(points), dtype=torch.bool)  # on the host, as points are here
    covered[members] = True
    while not covered.all():  # the point farthest from all centres, among those left out
        centre = torch.where(covered, -1, nearest).argmax()
        distance = squared_distances(points, points[centre])
        member = _nearest(distance[None], patches.points)
        centres, members = torch.cat([centres, centre[None]]), torch.cat([members, member])
        covered[member] = True
        nearest = torch.minimum(nearest, distance)
    return centres, members


def farthest_centres(
    points: torch.Tensor, count: int, start: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Farthest point sampling: centres (count,) and squared distances (count, N) from them.

    Each next centre is the point farthest from all before it, the first one among equals (M3DM's,
    blocks/points.farthest_points, follow pointnet2_ops there).
    """
    if starts_fast(points.device):
        distances = points.new_empty(count, len(points))
        centres = farthest(points.numpy(), count, start, distances=distances.numpy())
        return torch.from_numpy(centres), distances
    centres = torch.from_numpy(farthest(points.cpu().numpy(), count, start))
    centres = sent(centres, points.device)
    return centres, squared_distances(points, points[centres][:, None])


def _nearest(distances: torch.Tensor, count: int) -> torch.Tensor:
    """Indices (P, count) of the smallest of each row, ascending; repeated where there are fewer."""
    order = distances.topk(min(count, distances.shape[1]), dim=1, largest=False).indices
    repeats = -(-count // order.shape[1])
    return order.repeat(1, repeats)[:, :count]


def cut_cloud(xyz: torch.Tensor, patches: Patches, seed: int) -> torch.Tensor:
    """Pixel ids (P, K) of the patches of an organised cloud (S, S, 3); P = 0 if it is empty."""
    cloud = xyz.cpu()
    pixels = foreground(cloud)
    if not len(pixels):
        return pixels.new_empty(0, patches.scaled.points).to(xyz.device)
    # Covering looks at what is left after each patch, so it is done where that is seen at once.
    where = cloud.device if patches.cover else xyz.device
    points = sent(scaled(cloud.reshape(-1, 3)[pixels]), where)
    _, members = cut(points, patches, first_centre(len(pixels), seed))
    return sent(sent(pixels, where)[members], xyz.device)


def points_of(xyz: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Points (P, K, 3) of the patches with these pixel ids, of the scaled cloud."""
    if not len(pixels):
        return xyz.new_empty(*pixels.shape, 3)
    there = (xyz != 0).all(dim=-1, keepdim=True)
    low = torch.where(there, xyz, torch.inf).amin(dim=(0, 1))
    high = torch.where(there, xyz, -torch.inf)[..., 0].amax()
    return _moved(xyz.reshape(-1, 3)[pixels], low, high - low[0])


def normalise(
    points: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Patches (P, K, 3) moved to longest extent 1 and mean 0.

    -> points (P, K, 3), scale (P, 1, 1), mean (P, 1, 3); other points move by
    `points * scale - mean`.
    """
    extent = (points.amax(dim=1) - points.amin(dim=1)).amax(dim=-1).view(-1, 1, 1)
    scale = 1 / torch.where(extent > 0, extent, 1)
    moved = points * scale
    mean = moved.mean(dim=1, keepdim=True)
    return moved - mean, scale, mean
