"""What a Ray that `serve --ray` starts is told before it is imported: it reads all of this from the environment, once.

What the user has set there stays.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray tells its makers of its use otherwise
    "RAY_AUTH_MODE": "token",  # who has no token is refused
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # one machine: its ports are on 127.0.0.1, not on every address
    "RAY_enable_metrics_collection": "0",  # the front has /metrics of its own; Ray's would be open to every address
    "RAY_COLOR_PREFIX": "0",
}
TOKEN = Path(".ray", "auth_token")
"""Below the home folder: where Ray looks for its token, and where it would write one that others may read."""


def prepare_own_ray() -> None:
    """Before Ray is imported: it listens on this machine alone, and asks for a token."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if os.environ["RAY_AUTH_MODE"] == "token" and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        _make_token(Path.home() / TOKEN)


def _make_token(path: Path) -> None:
    """A token that this user alone can read; one that is there is kept, and closed to others."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        return
    with os.fdopen(file, "w") as writing:
        writing.write(secrets.token_hex(32))
