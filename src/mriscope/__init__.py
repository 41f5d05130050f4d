"""mriscope: train, rank, explain and honestly evaluate dementia classifiers on brain-MRI slices.

The public names, which `__init__.pyi` lists, are imported when first used, so that importing mriscope costs nothing.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    from mriscope.lazy import load

    return load(name)


def __dir__() -> list[str]:
    from mriscope.lazy import PUBLIC

    return [*globals(), *PUBLIC, "__all__"]
