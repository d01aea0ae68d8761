"""Which program this is."""

from importlib.metadata import PackageNotFoundError, version


def installed(package: str) -> str:
    """Version of an installed package; a checkout need not be installed to be run."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
