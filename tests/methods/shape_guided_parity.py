"""What Shape-Guided's parity tests share."""

import numpy as np
import pytest
import torch

from methods.shape_guided.sdf import ShapeNet
from methods.shape_guided.settings import Net

SIZE, GRID = 224, 28


@pytest.fixture(scope="module")
def p(parity):
    return parity("shape_guided")


@pytest.fixture(scope="module")
def shape(p):
    net = ShapeNet(Net()).eval()
    p.fill(net)
    return net


def close(got, expected, tolerance):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=tolerance)


def statistics(x):
    x = np.asarray(x, np.float64)
    return np.array([x.mean(), x.std(), np.abs(x).sum()])


def normal(p, name, shape):
    return torch.from_numpy(p.input(name, shape, "normal"))


def unit(p, name, shape):
    return torch.from_numpy(p.input(name, shape, "unit"))
