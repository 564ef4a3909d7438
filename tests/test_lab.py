"""docs/lab.md and docs/lab.zh-CN.md: their commands are ones that the scripts take, and the same in both languages."""

import ast
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from argparse import Namespace

import pytest
from conftest import ROOT

from gan_mnist import cli
from gan_mnist.config import Config, load
from gan_mnist.losses import make_loss
from gan_mnist.models import network_spec
from gan_mnist.schedules import learning_rates

LANGUAGES = {name: ROOT / "docs" / name for name in ("lab.md", "lab.zh-CN.md")}
STUB = 'python() { printf "%s\\0" "$@"; printf "\\1"; }\n'
"""What the shell calls instead of Python: it writes down the arguments, each ended by 0, and a call by 1."""

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="the commands are bash's")
both = pytest.mark.parametrize("name", LANGUAGES)


class Parsed(Exception):  # noqa: N818
    """Thrown out of a script by its parser, which has the arguments."""


def blocks(name: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", LANGUAGES[name].read_text(encoding="utf-8"), flags=re.S | re.M)


def commands(name: str) -> list[list[str]]:
    """The arguments of every call of Python, in order: the shell itself runs the loops, and has no other program."""
    script = STUB + "".join(blocks(name))
    bash = [str(BASH), "-eu", "-c", script]
    process = subprocess.run(bash, env={"PATH": ""}, capture_output=True, text=True, encoding="utf-8")
    assert process.returncode == 0 and not process.stderr, process.stderr
    return [call.split("\0")[:-1] for call in process.stdout.split("\1")[:-1]]


def parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """What a script's parser makes of the command."""

    def stop(parser: cli.Parser) -> None:
        raise Parsed(parser.parse_known_intermixed_args())

    for method in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(cli.Parser, method, stop)
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    with pytest.raises(Parsed) as parsed:
        runpy.run_path(str(ROOT / arguments[0]))["main"]()
    namespace, unknown = parsed.value.args[0]
    assert not unknown, arguments
    return namespace


def resolve(arguments: Namespace) -> Config:
    """The configuration that train.py would train, down to the networks' options."""
    named = [f"name={arguments.run_name}"] if arguments.run_name else []
    config = load(ROOT / arguments.config, [*arguments.overrides, *named])
    network_spec(config.model, "generator", (1, 28, 28))
    network_spec(config.model, "discriminator", (1, 28, 28))
    make_loss(config.loss)
    for options in (config.optim_g, config.optim_d):
        learning_rates(options, epochs=config.train.epochs, steps_per_epoch=10)
    return config


@needs_bash
@both
def test_every_command_is_one_that_its_script_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a command works on, a command before it has made."""
    epochs: dict[str, int] = {}
    for arguments in commands(name):
        if arguments[0] == "-c":
            check_program(arguments[1])
            continue
        monkeypatch.chdir(ROOT)
        given = parse(arguments, monkeypatch)
        if arguments[0] == "scripts/train.py" and not given.resume:
            config = resolve(given)
            if not given.dry_run:
                assert config.name not in epochs or given.overwrite, f"{config.name} is trained twice"
                epochs[config.name] = config.train.epochs
        for word in arguments:
            if match := re.match(r"result/([\w.-]+)(?:/checkpoints/[A-Z]\w+tor(\d+)\.ckpt)?$", word):
                assert match[1] in epochs and (not match[2] or int(match[2]) == epochs[match[1]] - 1), arguments
    assert epochs


def check_program(source: str) -> None:
    """It compiles, and what it imports is there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


@needs_bash
def test_both_languages_have_the_same_commands() -> None:
    english, chinese = (commands(name) for name in LANGUAGES)
    assert english == chinese


def test_both_languages_have_the_same_numbers_in_their_tables() -> None:
    def numbers(name: str) -> list[list[str]]:
        lines = LANGUAGES[name].read_text(encoding="utf-8").splitlines()
        rows = [line for line in lines if line.startswith("|")]
        return [re.findall(r"-?\d+(?:[.,]\d+)*", row) for row in rows]

    english, chinese = map(numbers, LANGUAGES)
    assert english == chinese
    assert sum(map(len, english)) > 100


@both
def test_what_it_links_to_is_there(name: str) -> None:
    text = LANGUAGES[name].read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#:]+)\)", prose):
        assert (LANGUAGES[name].parent / target).exists(), target
    assert text.count("<details>") == text.count("</details>") > 10
