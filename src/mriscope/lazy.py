"""The public names of mriscope, imported when first used; their one table is the stub `__init__.pyi`.

The type checker reads the same stub. lazy_loader reads such stubs as well, but knows neither `import evaluate_run as
evaluate` nor packages that are called as functions, and so is not used.
"""

import ast
import inspect
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any


def _read_table() -> dict[str, tuple[str, str]]:
    """Return for each public name its module and its name there."""
    stub = Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8")
    return {
        alias.asname or alias.name: (f"mriscope.{node.module}", alias.name)
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


PUBLIC = MappingProxyType(_read_table())


def load(name: str) -> Any:
    """Import what `mriscope.<name>` stands for: a package of that name, which can be called, or else what PUBLIC names.

    Raises:
        AttributeError: there is no such name.
    """
    if name == "__all__":
        return [public for public in PUBLIC if not public.startswith("_")]
    if name not in PUBLIC:
        raise AttributeError(f"module 'mriscope' has no attribute {name!r}")
    if find_spec(f"mriscope.{name}"):
        return import_module(f"mriscope.{name}")
    return _import(name)


def _import(name: str) -> Any:
    module, attribute = PUBLIC[name]
    return getattr(import_module(module), attribute)


class CallablePackage(ModuleType):
    """A package that is called as the public function of its name, as in `mriscope.audit(slices)`.

    `mriscope.audit` and `mriscope.explain` name both a package and what one does with it. Python binds a package to its
    name in the parent as soon as one of its modules is imported, so that a plain function of that name would be there
    or not, as the order of imports has it. A package takes this class by
    `sys.modules[__name__].__class__ = CallablePackage`.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return _import(self.__name__.removeprefix("mriscope."))(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_import(self.__name__.removeprefix("mriscope.")))
