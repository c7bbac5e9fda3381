"""The version, written once: the distribution, the command and the view read it from here."""

__version__ = "0.2.0"
