"""What the README shows must run as it stands."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = {
    name: code
    for name, code in re.findall(r"<!-- (\w+) EXAMPLE -->\n```python\n(.*?)```", README, flags=re.DOTALL)
}


@pytest.mark.parametrize("name", ["LOSS", "PRESET", "EVALUATOR"])
def test_library_example_runs_and_is_short(name, capsys):
    code = EXAMPLES[name]
    assert len(code.splitlines()) <= 40
    exec(compile(code, f"README.md {name}", "exec"), {"__name__": "readme"})
    if name == "EVALUATOR":
        assert capsys.readouterr().out == "AP 0.300, AP50 1.000\n"


def test_commands_and_configs_that_the_readme_names_exist():
    from dethead import config
    from dethead.cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"/dethead (\w+) ", README)) <= commands
    named = set(re.findall(r"\b((?:scenes|road|coco)\w*_(?:softmax_ce|sigmoid_bce))\b", README))
    assert named <= set(config.shipped())
