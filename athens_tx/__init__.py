"""athens-tx: a Go module proxy on Twisted, a drop-in for Athens."""

__version__ = "0.1.0"
