"""The gateway's sockets, bound before anything is loaded."""

import errno
import socket

from holdfast.settings import StartError


def listen(host: str, port: int) -> list[socket.socket]:
    """Binds every address of the host to the port, or to one free port for 0.

    Raises:
        StartError: The host has no such address here, or the port is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"host {host} is no address ({error.strerror}); correct --host, HOLDFAST_HOST") from None
    bound: list[socket.socket] = []
    absent: OSError | None = None
    for family, _, _, _, (address, _, *_) in dict.fromkeys(found):
        try:
            bound.append(_bound(family, str(address), bound[0].getsockname()[1] if bound else port))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for earlier in bound:
                    earlier.close()
                raise StartError(_refusal(host, port, error)) from None
            absent = error
    if not bound:
        raise StartError(f"host {host} is no address of this machine ({absent}); correct --host, HOLDFAST_HOST")
    return bound


def _bound(family: int, address: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart would wait for old connections
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
        bound.listen(2048)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; stop what listens there, or choose another: --port, HOLDFAST_PORT"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} of {host} is not allowed to this user; choose one above 1023: --port, HOLDFAST_PORT"
    return f"port {port} of {host} cannot be listened on ({error.strerror}); choose another: --port, HOLDFAST_PORT"
