"""What DBRN's parity tests share."""

import numpy as np
import torch

COMPUTED = ("relative_position_index", "attn_mask")  # by the constructor: not filled


def fill(p, module) -> None:
    """Fill a module's state dict by its keys, but for what its constructor computes."""
    module.load_state_dict(
        {
            k: v if k.endswith(COMPUTED) else torch.from_numpy(p.parameter(k, v.shape))
            for k, v in module.state_dict().items()
        }
    )


def layout(module):
    return [[key, list(value.shape)] for key, value in module.state_dict().items()]


def close(got, expected, tolerance):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=tolerance)


def same_stats(value, expected):
    """Mean, deviation and sum of absolute values of the whole, to 1e-5 relative.

    A mean near zero is compared with the deviation.
    """
    x = np.asarray(value, np.float64)
    mean, std, total = expected
    np.testing.assert_allclose([x.std(), np.abs(x).sum()], [std, total], rtol=1e-5)
    assert abs(x.mean() - mean) <= 1e-5 * max(abs(mean), std)


def tensor(array):
    return torch.from_numpy(np.asarray(array, np.float64))
