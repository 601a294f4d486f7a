"""The socket that a server answers on: opened here, or handed over by the process that started it."""

from __future__ import annotations

import socket

from hybridstitch.method.errors import HybridStitchError

UNREAD = 60.0
"""Seconds after which a client that takes nothing of what was sent to it is cut off, lest it stay for ever."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        HybridStitchError: no such address, or the port is taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise HybridStitchError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections have it from the socket that accepts them
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD * 1000))
    return listening


def inherited(number: int) -> socket.socket:
    """The listening socket of that file descriptor.

    Raises:
        HybridStitchError: it is none.
    """
    try:
        given = socket.socket(fileno=number)
    except OSError as error:
        raise HybridStitchError(f"--fd {number} is no socket: {error.strerror}") from None
    if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        given.detach()
        raise HybridStitchError(f"--fd {number} does not listen")
    return given
