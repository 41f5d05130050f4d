"""The head of docs/cli.md says what the program does."""

import importlib.util
import re
from pathlib import Path

from mriscope.cli import app, data_app
from mriscope.workflows import _leakage, audit

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def commands_of_page() -> set[str]:
    return set(re.findall(r"^## mriscope (.+)$", PAGE, re.MULTILINE))


def test_the_page_has_a_section_for_each_command():
    groups = [group.typer_instance for group in app.registered_groups if group.typer_instance is not None]
    plain = [group for group in groups if group is not data_app]
    named = {
        one.name or one.callback.__name__.replace("_", "-")
        for group in plain
        for one in group.registered_commands
        if one.callback
    }
    assert commands_of_page() == named | {f"data {one.name}" for one in data_app.registered_commands}


def test_every_section_names_quiet_and_those_that_print_tables_name_json():
    sections = dict(re.findall("^## mriscope ([^\n]+)\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    assert all("--quiet" in text for text in sections.values())
    with_json = {name for name, text in sections.items() if "--json" in text}
    tables = {
        "prepare",
        "audit",
        "train",
        "evaluate",
        "predict",
        "explain-compare",
        "compare",
        "crossval",
        "models",
        "recipes",
        "compare-crossval",
    }
    assert with_json >= tables | {"data info"}


def test_the_exit_codes_of_an_audit_are_those_of_the_program():
    codes = dict(re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE))
    assert list(codes) == ["0", "1", "2", "3", "4", "5", "130", "141"]
    assert _leakage.EXIT_CODES == {True: 3, False: 0, None: 4}
    assert (audit.NOTHING_AUDITED, "no split was audited" in codes["5"]) == (5, True)
    assert "leaky" in codes["3"]
    assert "cannot be told" in codes["4"]


def test_the_maker_of_the_page_says_what_stands_in_it():
    spec = importlib.util.spec_from_file_location("make_cli_page", ROOT / "docs" / "make_cli_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert PAGE.startswith(module.HEAD)
    assert set(module.COMMANDS) - {""} == commands_of_page()
