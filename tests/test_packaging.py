"""What pyproject.toml says agrees with the files."""

import tomllib
from pathlib import Path

import dethead

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_the_package_is_listed_and_nothing_else():
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "dethead").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"dethead.configs"}


def test_every_folder_with_python_files_is_a_package():
    folders = {path.parent for path in (ROOT / "dethead").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_version_is_stated_once_and_the_same():
    assert PROJECT["project"]["version"] == dethead.__version__


def test_the_shipped_configs_go_into_the_wheel():
    setuptools = PROJECT["tool"]["setuptools"]
    assert (ROOT / setuptools["package-dir"]["dethead.configs"] / "scenes_softmax_ce.yaml").is_file()
    assert setuptools["package-data"]["dethead.configs"] == ["*.yaml", "ablations/*.yaml"]


def test_the_command_is_the_one_of_the_readme():
    assert PROJECT["project"]["scripts"] == {"dethead": "dethead.cli:main"}
