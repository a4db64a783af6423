"""Which hosts are this machine itself, and who is at it."""

from __future__ import annotations


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine as only this machine can reach it.

    Args:
        host: A name or an address, as it stands in a URL, without brackets.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("jobs.localhost"), is_loopback("example.org")
        (True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def local_user() -> str:
    """Who runs this program; empty in a container whose user has no name."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
