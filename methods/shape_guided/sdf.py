"""The shape expert: PointNet and a neural implicit function.

PointNet describes a patch of points by a feature; the implicit function says, given the feature,
how far a query is from the patch's surface. Learnt as in Neural-Pull (Ma et al., ICML 2021):
queries moved by the distance along its gradient must land on the surface. Names of attributes
give the keys of the authors' checkpoint. methods/shape_guided/README.md, section 2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from methods.blocks.at_once import AtOnce
from methods.shape_guided.patches import normalise
from methods.shape_guided.settings import Net

ACTIVATION_BYTES = AtOnce(cpu=4 * 2**20, accelerator=2**30)  # of a layer's output at inference


class Encoder(nn.Module):
    """PointNet without its transforms: points (B, K, 3) -> feature (B, F), not negative."""

    def __init__(self, net: Net):
        super().__init__()
        a, b, c = net.points
        self.conv1 = nn.Conv1d(3, a, 1)
        self.conv2 = nn.Conv1d(a, b, 1)
        self.conv3 = nn.Conv1d(b, c, 1)
        self.fc1 = nn.Linear(c, net.hidden)
        self.fc2 = nn.Linear(net.hidden, net.feature)
        self.bn1 = nn.BatchNorm1d(a)
        self.bn2 = nn.BatchNorm1d(b)
        self.bn3 = nn.BatchNorm1d(c)
        self.bn4 = nn.BatchNorm1d(net.hidden)
        self.bn5 = nn.BatchNorm1d(net.feature)

    def forward(self, points):
        x = points.transpose(1, 2)  # (B, 3, K)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = x.amax(dim=2)  # (B, c)
        x = F.relu(self.bn4(self.fc1(x)))
        return F.relu(self.bn5(self.fc2(x)))

    def inference_layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weight (out, in) and bias (out,) of its five layers, batch norms (eval) worked in."""
        layers = [self.conv1, self.conv2, self.conv3, self.fc1, self.fc2]
        norms = [self.bn1, self.bn2, self.bn3, self.bn4, self.bn5]
        folded = []
        for layer, norm in zip(layers, norms):
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            bias = (layer.bias - norm.running_mean) * gain + norm.bias
            folded.append((layer.weight.flatten(1) * gain[:, None], bias))
        return folded


class NormedLinear(nn.Module):
    """Linear layer with weight = g v / |v|, row by row, under the names of torch's weight_norm."""

    def __init__(self, width: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight_g = nn.Parameter(torch.empty(width, 1))
        self.weight_v = nn.Parameter(torch.empty(width, width))

    def forward(self, x):
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=1, keepdim=True))
        return F.linear(x, weight, self.bias)


class ImplicitFunction(nn.Module):
    """feature (B, F), queries (B, K, 3) -> signed distances (B, K); either sign may be inside."""

    def __init__(self, net: Net):
        super().__init__()
        w, self.depth = net.width, net.depth
        self.fc1 = nn.Linear(net.feature, w)
        self.fc2 = nn.Linear(3, w)
        self.fc3 = nn.Linear(2 * w, w)
        for i in range(net.depth):
            setattr(self, f"fc4{i}", NormedLinear(w))
        self.fc5 = nn.Linear(w, 1)
        self._initialise(w)

    @torch.no_grad()
    def _initialise(self, w):
        std = math.sqrt(2) / math.sqrt(w)  # fc3 too, though its fan-in is 2 w (code)
        self.fc3.weight.normal_(0, std)
        self.fc3.bias.zero_()
        for i in range(self.depth):
            layer = getattr(self, f"fc4{i}")
            layer.weight_v.normal_(0, std)
            layer.weight_g.copy_(layer.weight_v.norm(dim=1, keepdim=True))
        self.fc5.weight.normal_(2 * math.sqrt(math.pi) / math.sqrt(w), 1e-6)
        self.fc5.bias.fill_(-0.5)

    def forward(self, feature, queries):
        w = self.fc3.out_features
        a = F.relu(self.fc1(feature))  # (B, w)
        h = F.relu(self.fc2(queries), inplace=True)  # (B, K, w)
        # fc3 of [h, a]: what a adds is the same for all queries of a patch.
        shared = F.linear(a, self.fc3.weight[:, w:], self.fc3.bias)  # (B, w)
        h = F.linear(h, self.fc3.weight[:, :w]) + shared[:, None]
        h = F.relu(h, inplace=True)
        for i in range(self.depth):
            h = F.relu(getattr(self, f"fc4{i}")(h), inplace=True)
        return self.fc5(h)[..., 0]


class ShapeNet(nn.Module):
    def __init__(self, net: Net):
        super().__init__()
        self.encoder = Encoder(net)
        self.NIF = ImplicitFunction(net)

    @torch.no_grad()
    def features(self, points: torch.Tensor) -> torch.Tensor:
        """Features (P, F) of normalised patches (P, K, 3), as the encoder in eval mode has them.

        Rectifying commutes with the maximum, so it is done after it, on a K-th of the values.
        """
        (*narrow, (w3, b3), (w4, b4), (w5, b5)) = self.encoder.inference_layers()
        tops = []
        for part in points.split(_patches_at_once(points, len(w3))):
            x = part.flatten(0, 1)  # (B K, 3)
            for weight, bias in narrow:
                x = F.linear(x, weight, bias).relu_()
            tops.append((x @ w3.t()).view(*part.shape[:2], -1).amax(dim=1))
        x = (torch.cat(tops) + b3).relu_()  # (P, c)
        return F.linear(F.linear(x, w4, b4).relu_(), w5, b5).relu_()

    @torch.no_grad()
    def distances(self, features: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Signed distances (P, K) of points (P, K, 3) from the shapes that features (P, F) mean."""
        size = _patches_at_once(points, self.NIF.fc3.out_features)
        parts = zip(features.split(size), points.split(size))
        return torch.cat([self.NIF(f, p) for f, p in parts])


def _patches_at_once(points: torch.Tensor, width: int) -> int:
    """Of patches (P, K, 3), whose points have `width` channels in the widest layer."""
    return max(1, ACTIVATION_BYTES.on(points.device) // (4 * points.shape[1] * width))


def pull(
    net: ShapeNet, feature: torch.Tensor, queries: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Move queries (B, K, 3) by their distance s against its gradient g.

    -> pulled (B, K, 3), s (B, K), g (B, K, 3)
    """
    learning = torch.is_grad_enabled()
    with torch.enable_grad():
        q = queries.detach().requires_grad_()
        s = net.NIF(feature, q)
        (g,) = torch.autograd.grad(s.sum(), q, create_graph=learning)
    if not learning:
        q, s = queries, s.detach()
    n = g / (g.square().sum(dim=-1, keepdim=True) + 1e-12).sqrt()
    return q - s[..., None] * n, s, g


def pull_loss(net: ShapeNet, patch, queries, targets) -> torch.Tensor:
    """Mean distance of the pulled queries (B, K, 3) from their targets (B, K, 3); patch (B, K, 3)
    is what the encoder sees."""
    pulled, _, _ = pull(net, net.encoder(patch), queries)
    return (targets - pulled).norm(dim=-1).mean()


def query_spread(points: torch.Tensor, neighbour: int) -> torch.Tensor:
    """sigma (P, K): distance of each point of a patch (P, K, 3) from its neighbour of that rank."""
    rank = min(neighbour + 1, points.shape[1])  # a point is its own nearest
    return torch.cat([_distances(p, p).kthvalue(rank, dim=-1).values for p in points.split(16)])


def queries_around(
    points: torch.Tensor, sigma: torch.Tensor, factor: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries near patches (P, K, 3), and the points they are nearest to.

    sigma (P, K), factor (P,), noise (P, K, 3) ~ N(0, 1) -> points, queries, targets, all
    (P, K, 3) and normalised like the patch.
    """
    raw = points + (factor.view(-1, 1, 1) * sigma[..., None]) * noise
    points, scale, mean = normalise(points)
    queries = raw * scale - mean
    nearest = _distances(queries, points).argmin(dim=-1)  # (P, K)
    targets = points.gather(1, nearest[..., None].expand(-1, -1, 3))
    return points, queries, targets


def _distances(a, b):
    """By differences: the form with inner products is too coarse between near points."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
