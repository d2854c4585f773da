from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "siligrad": ROOT / "frontend" / "siligrad",
    "siligrad_cli": ROOT / "frontend" / "siligrad_cli",
    "siligrad_hdl": ROOT / "hdl" / "siligrad_hdl",
    "siligrad_sim": ROOT / "sim" / "siligrad_sim",
    "siligrad_host": ROOT / "firmware" / "siligrad_host",
}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Which of our packages a package may import, itself aside.
MAY_IMPORT = {
    "siligrad": set[str](),
    "siligrad_hdl": {"siligrad"},
    "siligrad_sim": {"siligrad", "siligrad_hdl"},
    "siligrad_host": {"siligrad"},
    "siligrad_cli": set(PACKAGES),
}
# What the hardware may know of the library: where bits are, never what is computed with them.
HDL_MAY_IMPORT = {
    "siligrad.baked",
    "siligrad.isa",
    "siligrad.registers",
    "siligrad.files",
    "siligrad.frames",
    "siligrad.errors",
    "siligrad.fixed",
}


def committed_files() -> list[Path]:
    """Return what is committed, or about to be: everything that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def modules(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Yield the line, the module and the name of each import of a file, wherever in it."""
    folder, package = next(
        (folder, package) for package, folder in PACKAGES.items() if path.is_relative_to(folder)
    )
    parents = [package, *path.relative_to(folder).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, module, alias.name


def top_level(module: str) -> str:
    return module.partition(".")[0]


# Who imports whom


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_before_them(package: str) -> None:
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in modules(package)
        for line, module, _ in imports(path)
        if top_level(module) in forbidden
    ]
    assert not found, "\n".join(found)


def lines_that_may_fail_to_import(path: Path) -> set[int]:
    """Return the lines inside ``try: ... except ImportError:``."""
    return {
        statement.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Try)
        and any(
            isinstance(handler.type, ast.Name) and handler.type.id == "ImportError"
            for handler in node.handlers
        )
        for statement in node.body
    }


def test_the_library_needs_numpy_alone() -> None:
    allowed = sys.stdlib_module_names | {"siligrad", "numpy"}
    optional = {"tqdm"}  # a progress bar, where it is installed
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in modules("siligrad")
        for line, module, _ in imports(path)
        if top_level(module) not in allowed
        and not (top_level(module) in optional and line in lines_that_may_fail_to_import(path))
    ]
    assert not found, "\n".join(found)


def test_the_hardware_takes_names_from_the_library_and_no_arithmetic() -> None:
    found = []
    for path in modules("siligrad_hdl"):
        for line, module, name in imports(path):
            if top_level(module) != "siligrad":
                continue
            full = f"{module}.{name}" if module == "siligrad" and name else module
            # Classes and constants of `fixed` are names; its functions are the arithmetic.
            function = module == "siligrad.fixed" and (name is None or name.islower())
            if full not in HDL_MAY_IMPORT or function:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {name} of {module}")
    assert not found, "\n".join(found)


def test_the_reference_runs_without_the_hardware() -> None:
    script = (
        "import sys, siligrad_sim.reference\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "siligrad_sim" in loaded
    assert not loaded & {"siligrad_hdl", "siligrad_cli", "amaranth", "cocotb"}


def test_no_product_code_imports_test_code() -> None:
    forbidden = {"tests", "pytest", "hypothesis"}
    campaign = PACKAGES["siligrad_sim"] / "campaign"  # draws random programs with hypothesis
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for package in PACKAGES
        for path in modules(package)
        for line, module, _ in imports(path)
        if top_level(module) in forbidden
        and not (path.parent == campaign and top_level(module) == "hypothesis")
    ]
    assert not found, "\n".join(found)


def module_name(path: Path) -> str:
    folder, package = next(
        (folder, package) for package, folder in PACKAGES.items() if path.is_relative_to(folder)
    )
    parts = [package, *path.relative_to(folder).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph() -> dict[str, set[str]]:
    """Which of our modules each of them imports, at whatever place in the file."""
    paths = {module_name(path): path for package in PACKAGES for path in modules(package)}
    graph: dict[str, set[str]] = {}
    for importer, path in paths.items():
        imported = set()
        for _, module, name in imports(path):
            whole = f"{module}.{name}"
            imported.add(whole if whole in paths else module)
        graph[importer] = (imported & set(paths)) - {importer}
    return graph


def test_no_import_runs_in_a_circle() -> None:
    # An import inside of a function counts: it hides a circle and does not open it.
    try:
        tuple(TopologicalSorter(import_graph()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def drawn_as(module: str) -> str:
    """The box of the picture that a module is part of."""
    package, *rest = module.split(".")
    if package == "siligrad":  # autodiff and compiler are a box each, everything else is its module
        return ".".join([package, *(rest[:1] if rest[0] in ("autodiff", "compiler") else rest)])
    if package == "siligrad_cli":
        return package if rest == ["main"] else f"{package}.{rest[0]}"
    boxes = {
        "siligrad_hdl": {"boards", "estimate", "flow", "link", "soc", "vendor"},
        "siligrad_sim": {"benches", "campaign", "coverage", "faults", "formal", "soc"},
    }
    folders = [part for part in rest[:1] if part in boxes.get(package, ())]
    return ".".join([package, *folders])


def drawn_imports() -> str:
    """The imports between those boxes for graphviz; those that follow from others are left out."""
    above: dict[str, set[str]] = {}
    for importer, imported in import_graph().items():
        if importer not in PACKAGES:  # a package's own list of names is drawn as its modules
            here = above.setdefault(drawn_as(importer), set())
            here |= {drawn_as(module) for module in imported if module not in PACKAGES}
            here.discard(drawn_as(importer))

    def reached(box: str) -> set[str]:
        return above.get(box, set()).union(*(reached(each) for each in above.get(box, ())))

    lines = ["digraph imports {", "  rankdir=BT;", "  node [shape=box, fontname=Helvetica];"]
    for package in PACKAGES:
        members = sorted(box for box in above if box.split(".")[0] == package)
        lines.append(f"  subgraph cluster_{package} {{ label={package}; fontname=Helvetica;")
        lines += [f'    "{box}" [label="{box.split(".")[-1]}"];' for box in members]
        lines.append("  }")
    for box in sorted(above):
        indirect = set().union(*(reached(each) for each in above[box]))
        lines += [f'  "{box}" -> "{each}";' for each in sorted(above[box] - indirect)]
    return "\n".join([*lines, "}"]) + "\n"


def test_the_picture_of_the_imports_is_that_of_today(request: pytest.FixtureRequest) -> None:
    # docs/pictures/imports.svg is drawn from it: dot -Tsvg imports.dot -o imports.svg
    committed = ROOT / "docs" / "pictures" / "imports.dot"
    if request.config.getoption("--update-golden"):
        committed.write_text(drawn_imports(), encoding="utf-8")
    assert committed.read_text(encoding="utf-8") == drawn_imports()


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = {canonicalize_name(item.name) for item in requirements()}
    # Modules that a declared package brings along under another name.
    provided = {
        "amaranth_boards": "amaranth-boards",
        "cocotb_tools": "cocotb",
        "cocotbext": "cocotbext-axi",
        "dask": "distributed",
        "find_libpython": "cocotb",
        "serial": "pyserial",
        "z3": "z3-solver",
    }
    ours = {*PACKAGES, *sys.stdlib_module_names}
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for package in PACKAGES
        for path in modules(package)
        for line, module, _ in imports(path)
        if top_level(module) not in ours
        and canonicalize_name(provided.get(top_level(module), top_level(module))) not in declared
    ]
    assert not found, "\n".join(found)


# Names


def test_no_file_is_named_for_what_it_is_not() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "stuff"}
    found = [path for path in committed_files() if vague & set(path.relative_to(ROOT).parts)]
    found += [path for path in committed_files() if path.stem.lower() in vague]
    assert not found


def test_every_module_says_what_it_offers() -> None:
    found = []
    for package in PACKAGES:
        for path in modules(package):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            only_a_docstring = len(tree.body) <= 1
            private = path.stem.startswith("_") and path.stem != "__init__"
            bench = "benches" in path.parts  # cocotb finds what is in it
            names = {
                target.id
                for node in tree.body
                if isinstance(node, ast.Assign | ast.AnnAssign)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                if isinstance(target, ast.Name)
            }
            if not (only_a_docstring or private or bench or "__all__" in names):
                found.append(str(path.relative_to(ROOT)))
    assert not found, "no __all__ in " + ", ".join(found)


# What committed files must not say

MACHINE = {
    "a folder of one machine": r"(?<![\w.$~}/-])/(?:work|opt|root|home|Users|mnt|srv)/\w",
    "the address of a package index": r"pypi\.org/simple|pythonhosted\.org|devpi|artifactory",
    "where pip should look": r"--(?:extra-)?index-url|--find-links|--trusted-host|PIP_\w*INDEX",
    "a file address": r"\bfile:/{2}",
}


@pytest.mark.parametrize("what", MACHINE)
def test_no_committed_file_names(what: str) -> None:
    pattern = re.compile(MACHINE[what])
    found = []
    for path in committed_files():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a data file
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a folder of one machine", "see /" + "home/me/notes"),
        ("the address of a package index", "https://pypi." + "org/simple/numpy"),
        ("where pip should look", "pip install --extra-" + "index-url x"),
        ("a file address", "numpy @ file:" + "///tmp/numpy"),
    ],
)
def test_such_lines_would_be_found(what: str, line: str) -> None:
    assert re.search(MACHINE[what], line)


# Dependencies


def requirement_lists() -> dict[str, list[str]]:
    lists: dict[str, list[str]] = dict(PROJECT["project"]["optional-dependencies"])
    lists["dependencies"] = PROJECT["project"]["dependencies"]
    lists["requires"] = PROJECT["build-system"]["requires"]
    return lists


def requirements() -> list[Requirement]:
    return [Requirement(line) for lines in requirement_lists().values() for line in lines]


def test_the_core_needs_numpy_alone() -> None:
    assert [Requirement(line).name for line in PROJECT["project"]["dependencies"]] == ["numpy"]


def test_every_dependency_has_its_reason_beside_it() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    for wanted in (line for lines in requirement_lists().values() for line in lines):
        places = [
            number
            for number, line in enumerate(lines)
            if re.match(rf'\s*(\w+ = \[)?"{re.escape(wanted)}"', line)
        ]
        assert places, f"{wanted} is not on a line of its own"
        for place in places:
            reason = "#" in lines[place] or lines[place - 1].lstrip().startswith("#")
            assert reason, f"pyproject.toml:{place + 1}: {wanted} without a reason"


# The extra that each lock file pins.
LOCKS = {"requirements.lock": "dev", "requirements-oracle.lock": "oracle"}


def extras_in(extra: str) -> set[str]:
    """Return the extras that ``extra`` is made of, itself included."""
    found: set[str] = set()
    waiting = {extra}
    while waiting:
        found.add(name := waiting.pop())
        for item in map(Requirement, PROJECT["project"]["optional-dependencies"][name]):
            if item.name == PROJECT["project"]["name"]:
                waiting |= item.extras - found
    return found


def requirements_of(extra: str) -> list[Requirement]:
    """Return what an extra needs, and what is always needed."""
    lists = requirement_lists()
    lines = [line for name in ["dependencies", *extras_in(extra)] for line in lists[name]]
    found = map(Requirement, lines)
    return [item for item in found if item.name != PROJECT["project"]["name"]]


def test_every_extra_is_in_a_lock() -> None:
    reached = {extra for locked_extra in LOCKS.values() for extra in extras_in(locked_extra)}
    # Whoever changes the Python on purpose installs what does so by hand.
    assert reached == set(PROJECT["project"]["optional-dependencies"]) - {"mutants"}


def locked(lock: str) -> dict[str, list[str]]:
    """Return the versions of each locked package, and check that each has hashes and no address."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    versions: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, lines)):
        match = re.fullmatch(
            r"([a-z0-9-]+)==(\S+)( ; [^\\]*?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)", line
        )
        assert match, f"{lock}: {line[:80]}"
        versions.setdefault(match[1], []).append(match[2])
    return versions


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_every_dependency_at_a_version_that_is_asked_for(lock: str) -> None:
    versions = locked(lock)
    for item in requirements_of(LOCKS[lock]):
        name = canonicalize_name(item.name)
        assert name in versions, f"{item} is not locked: make lock"
        assert all(item.specifier.contains(version) for version in versions[name]), str(item)


def test_locks_agree_where_they_overlap() -> None:
    first, second = (locked(lock) for lock in LOCKS)
    for name in first.keys() & second.keys():
        assert set(second[name]) <= set(first[name]), name


GROUPED = """
import pytest

@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(8))
def test_notes_its_process(number, worker_id):
    with open("processes", "a") as file:
        print(worker_id, file=file)
"""


def test_groups_hold_tests_together(tmp_path: Path) -> None:
    # Not every pytest lets pytest-xdist do so, and then nothing else tells.
    (tmp_path / "test_grouped.py").write_text(GROUPED, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup"]
    command.append("--basetemp=temporary")  # else it clears away what other runs have left
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    processes = (tmp_path / "processes").read_text(encoding="utf-8").split()
    assert len(processes) == 8
    assert len(set(processes)) == 1


def test_what_is_installed_here_is_what_is_locked() -> None:
    from importlib.metadata import version

    versions = locked("requirements.lock")
    for item in requirements_of("dev"):
        if not item.marker or item.marker.evaluate():
            assert version(item.name) in versions[canonicalize_name(item.name)]


# The rest of the repository


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+)", text, re.MULTILINE)
    assert first is not None
    assert first[1] == PROJECT["project"]["version"]


def test_the_licence_is_the_one_that_the_metadata_names() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["project"]["license"] == "BSD-2-Clause"
    assert text.startswith("BSD 2-Clause License\n")
    assert "siligrad contributors" in text


def test_scripts_can_be_executed() -> None:
    for path in committed_files():
        with path.open("rb") as file:
            script = file.read(2) == b"#!"
        assert script == os.access(path, os.X_OK), str(path.relative_to(ROOT))


def test_every_entry_point_exists() -> None:
    project = PROJECT["project"]
    targets = {**project["scripts"], **project["entry-points"]["siligrad.devices"]}
    for name, target in targets.items():
        module, _, attribute = target.partition(":")
        package, _, rest = module.partition(".")
        path = PACKAGES[package].joinpath(*rest.split(".")).with_suffix(".py")
        assert path.is_file(), f"{name}: {target} has no file"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {
            node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }
        assert attribute in defined, f"{name}: {path.relative_to(ROOT)} has no {attribute}"
