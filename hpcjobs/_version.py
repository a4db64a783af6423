"""The one version number, of the client and of the server."""

__version__ = "0.1.0"
