"""How far two sets of pictures are apart, as Gaussians of their features."""

from __future__ import annotations

import numpy as np


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians of two sets of features [n, D] and [m, D].

    |mean - mean'|^2 + tr(C + C' - 2 (C C')^1/2). It falls with the number of pictures, so compare only sets of as many.
    The trace of the root is the sum of the roots of the eigenvalues of C^1/2 C' C^1/2, which is symmetric.
    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017 (arXiv 1706.08500), with other features.
    """
    means, spreads = zip(*(_gaussian(each) for each in (features, reference)), strict=True)
    values, vectors = np.linalg.eigh(spreads[0])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    crossed = np.sqrt(np.linalg.eigvalsh(root @ spreads[1] @ root).clip(0)).sum()
    distance = np.sum((means[0] - means[1]) ** 2) + np.trace(spreads[0]) + np.trace(spreads[1]) - 2 * crossed
    return float(max(distance, 0.0))


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features are [n, D] of 2 pictures or more, not {features.shape}")
    return features.mean(axis=0), np.cov(features.astype(float), rowvar=False).reshape(features.shape[1], -1)
