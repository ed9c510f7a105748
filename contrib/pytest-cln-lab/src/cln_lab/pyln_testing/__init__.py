"""pyln-testing's modules, on the lab: ``from pyln.testing.fixtures import *`` finds these."""

__version__ = "26.6.6"
