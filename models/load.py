"""A component's weights, from its checkpoint."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch

from hybridstitch.method.errors import HybridStitchError

from .component import Component
from .number_format import check_plain_floats
from .weights import StoredTensor, check_stored, stored_tensors


def find_weights(component: Component) -> dict[str, StoredTensor]:
    """Where each of the component's weights lies, by the module's name for it, and what is kept beside them.

    Raises:
        HybridStitchError: a weight is missing, of another shape or no float, or its file is damaged.
    """
    stored = stored_tensors(component.folder)
    state = component.module.state_dict()
    for name in state:
        older = component.renamed.get(name)
        if name not in stored and older in stored:
            stored[name] = stored[older]
    check_plain_floats([*state, *component.kept], stored, component.folder)
    check_stored(state, stored, component.folder)
    if lost := [name for name in component.kept if name not in stored]:
        raise HybridStitchError(f"{component.folder} lacks tensor {lost[0]}")
    return {name: stored[name] for name in (*component.kept, *state)}


def unread_tensors(component: Component) -> list[str]:
    """The stored tensors that the component does not read, but for those that are known to have no part in it.

    Raises:
        HybridStitchError: no weights, or damaged ones.
    """
    read = {*component.module.state_dict(), *component.kept, *component.renamed.values()}
    return [
        name
        for name in stored_tensors(component.folder)
        if name not in read and not any(fnmatchcase(name, pattern) for pattern in component.unread)
    ]


def load_module(component: Component, device: torch.device) -> torch.nn.Module:
    """The component's module with its weights on a device, in the component's dtype.

    Raises:
        HybridStitchError: as `find_weights`.
    """
    stored = find_weights(component)
    weights = {
        name: stored[name].read().to(device=device, dtype=component.dtype) for name in component.module.state_dict()
    }
    component.module.load_state_dict(weights, assign=True)
    return component.module.eval().requires_grad_(False)
