"""Who may import whom: the rules of the house, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gan_mnist"
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
WITHOUT_MINDSPORE = ["report", "scoreboard", "imaging", "config", "rundir", "files", "errors", "cli", "environment"]
WITHOUT_MINDSPORE += ["data", "page", "tensorboard", "charts", "toy_evaluation", "doctor"]
NEVER = ["report", "scoreboard", "imaging", "config", "rundir", "files", "errors", "cli"]
NEVER += ["page", "tensorboard", "charts", "doctor"]


def imported(path: Path, *, everywhere: bool) -> set[str]:
    """The modules that a file imports: at its top level, or everywhere in it; never those for type checkers only."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def reached(module: str) -> set[str]:
    """All that importing a module of ours imports, through other modules of ours too."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parents = {".".join(name.split(".")[:end]) for end in range(1, name.count(".") + 1)}
        new = (imported(SOURCES[name], everywhere=False) | parents) - found if name in SOURCES else set()
        found |= new
        waiting += new
    return found


def inside(room: str) -> list[str]:
    """A module, and all of those in it."""
    return [name for name in SOURCES if name == f"gan_mnist.{room}" or name.startswith(f"gan_mnist.{room}.")]


def test_the_rooms_exist() -> None:
    for room in ("models", "losses", "data", "steps", "trainer", *WITHOUT_MINDSPORE):
        assert inside(room), room


@pytest.mark.parametrize("room", ["models", "losses", "data"])
def test_models_losses_and_data_do_not_know_one_another(room: str) -> None:
    others = [f"gan_mnist.{other}" for other in ("models", "losses", "data") if other != room]
    for module in inside(room):
        uses = imported(SOURCES[module], everywhere=True)
        assert not [name for name in uses if any(name == other or name.startswith(f"{other}.") for other in others)]


@pytest.mark.parametrize("room", ["models", "losses", "data", "imaging", "report", "config", "files"])
def test_nobody_imports_upwards(room: str) -> None:
    above = {"gan_mnist.trainer", "gan_mnist.steps", "gan_mnist.sampling", "gan_mnist.scoring", "gan_mnist.state"}
    for module in inside(room):
        assert not imported(SOURCES[module], everywhere=True) & above, module


@pytest.mark.parametrize("room", WITHOUT_MINDSPORE)
def test_importing_it_does_not_import_mindspore(room: str) -> None:
    reach = reached(f"gan_mnist.{room}")
    assert not [name for name in reach if name.split(".")[0] == "mindspore"]


@pytest.mark.parametrize("room", NEVER)
def test_it_never_imports_mindspore_not_even_later(room: str) -> None:
    for module in inside(room):
        assert not [name for name in imported(SOURCES[module], everywhere=True) if name.split(".")[0] == "mindspore"]


@pytest.mark.parametrize("script", ["train", "explore"])
def test_no_library_starts_threads_before_signals_are_blocked_in_all_of_them(script: str) -> None:
    """NumPy's own do not block them, and Ctrl-C may then end the process before anything is saved."""
    direct = imported(ROOT / "scripts" / f"{script}.py", everywhere=False)
    direct |= {
        f"gan_mnist.{name}" for name in ("cli", "distributed", "environment", "interrupts", "launcher", "scheduler")
    }
    everything = direct.union(*(reached(module) for module in direct if module.startswith("gan_mnist")))
    assert "gan_mnist.errors" in everything
    assert not {name.split(".")[0] for name in everything} & {"numpy", "scipy", "mindspore", "gradio"}


def test_the_search_finds_mindspore_where_it_is() -> None:
    assert "mindspore" in reached("gan_mnist.trainer")
    assert "gan_mnist.files" in reached("gan_mnist.report")


def test_only_steps_computes_gradients() -> None:
    names = ("value_and_grad", "vjp", "grad")
    users = {
        module
        for module, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in names
        and ast.unparse(node.value) in ("ms", "ops", "mindspore")
    }
    assert users <= {"gan_mnist.steps"}


@pytest.mark.parametrize(
    "path", [*SOURCES.values(), *sorted((ROOT / "scripts").glob("*.py"))], ids=lambda path: path.name
)
def test_no_star_imports_no_utils_no_stray_keywords(path: Path) -> None:
    assert path.name not in ("utils.py", "helpers.py", "common.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert "*" not in [alias.name for alias in node.names]


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_scripts_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 90
