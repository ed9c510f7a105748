"""The version, which is also that of the command ``lab`` it goes with."""

__version__ = "0.1.0"
