"""YAML of recipes: plain values alone, and nothing that is small to write and large to read."""

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

DEEPEST = 20
"""How many levels of lists and mappings a recipe may have."""


def load_yaml(text: str) -> Any:
    """Return the plain values of a YAML text; aliases share theirs.

    Raises:
        ValueError: it is no YAML, or holds a tag, a key twice, a key that is no text, or too many levels.

    Example:
        >>> load_yaml("training: {learning_rate: 1e-3, epochs: 3}")
        {'training': {'learning_rate': 0.001, 'epochs': 3}}
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:500]) from error
    except OverflowError as error:
        raise ValueError(r"an escape such as \UFFFFFFFF stands for no character") from error


def dump_yaml(values: Any) -> str:
    """Return plain values as YAML that `load_yaml` reads."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """A safe loader of plain YAML 1.2 values: text, numbers, true and false, lists and mappings.

    It refuses a key given twice (YAML keeps the last), tags, and nesting without end. Dates, numbers to the base of 60
    and merged mappings (<<) of YAML 1.1 are text here.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "tag", None):
            raise ComposerError(None, None, "a tag (!) stands before a value", event.start_mark)
        if self._depth > DEEPEST:
            raise ComposerError(None, None, f"nested more than {DEEPEST} deep", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for name, _ in node.value:
            key = self.construct_object(name, deep=True)
            if not isinstance(key, str | int | float | None):
                raise ConstructorError(None, None, "a key is no text", name.start_mark)
            if key in seen:
                raise ConstructorError(None, None, f"the key {key!r} stands twice", name.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """A safe dumper that quotes a text which the loader would read as a number, and line ends of Unicode."""

    def represent_text(self, text: str) -> yaml.Node:
        style = '"' if any(end in text for end in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
_NUMBERS = {
    "int": re.compile(r"[-+]?[0-9]{1,40}$|0x[0-9a-fA-F]{1,40}$"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
}


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value, 16 if node.value.startswith("0x") else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in kinds if tag.rpartition(":")[2] in ("bool", "null")]
    for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, list("-+.0123456789"))
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, list("-+.0123456789"))
