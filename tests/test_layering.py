"""Imports point one way: llm <- cluster <- {tune, deploy} <- jobs, and Ray stays in its places.

Packages stay within the lines that CONTRIBUTING.md gives them.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "llm": set(),
    "cluster": {"llm"},
    "tune": {"llm", "cluster"},
    "deploy": {"llm", "cluster"},
    "jobs": {"llm", "cluster", "tune", "deploy"},
}

LIGHT = [
    "llm/config.py",
    "cluster/config.py",
    "tune/findings.py",  # and with it tune/config.py and tune/space.py
    "jobs/spec.py",
    "jobs/plan.py",
    "jobs/show_scale.py",  # and with it llm/layouts.py and what that reckons with
    "jobs/cli.py",
]
"""Files that answer at once: nothing they import at their top may load torch or ray."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


def imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def top_level_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imports(tree)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_lies_before_them(package: str) -> None:
    for path in sources(package):
        used = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
        against = used & (MAY_IMPORT.keys() - MAY_IMPORT[package] - {package})
        assert not against, f"{path} imports {against}"


def test_ray_is_met_only_in_cluster_tune_and_serve() -> None:
    for package in ("llm", "jobs", "deploy"):
        for path in sources(package):
            if path.name != "serve.py":
                used = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
                assert "ray" not in used, f"{path} imports ray"


@pytest.mark.parametrize("start", LIGHT)
def test_what_answers_at_once_reaches_neither_torch_nor_ray(start: str) -> None:
    waiting, seen = [ROOT / start], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in top_level_imports(path):
            assert name.split(".")[0] not in ("torch", "ray"), f"{path} imports {name}"
            module = ROOT / (name.replace(".", "/") + ".py")
            if module.exists():
                waiting.append(module)


def test_packages_have_empty_inits() -> None:
    for package in MAY_IMPORT:
        init = ROOT / package / "__init__.py"
        assert not init.exists() or init.read_text() == ""


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_stay_within_their_lines(package: str) -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text()
    [most] = re.findall(rf"(?m)^\| `{package}/` \|.*\| ([\d,]+) \|$", table)
    lines = sum(len(path.read_text().splitlines()) for path in sources(package))
    assert lines <= int(most.replace(",", "")), "look for what can go; else raise it there"
