"""The version of mriscope, read from the metadata of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mriscope")
except PackageNotFoundError:  # a checkout that is on the path without being installed
    __version__ = "unknown (not installed)"
