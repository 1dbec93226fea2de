"""Reading configs: files, shipped names, overrides, and errors a person can act on."""

import difflib
from collections.abc import Hashable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from dethead.config.sections import UNKNOWN_NAME, Run, Section
from dethead.config.sections.schemes import SCHEME_SECTIONS, ClassScheme

S = TypeVar("S", bound=Section)


class ConfigError(ValueError):
    """A config file says something that cannot be meant."""


def load(source: str | Path, overrides: Sequence[str] = ()) -> Run:
    """Read one run.

    Args:
        source: a YAML file, or the name of a shipped config (see ``shipped``).
        overrides: ``key.sub=value``, the value in YAML.

    Raises:
        ConfigError: a line per mistake, with file, key, value and what would be right.
    """
    path = find(source)
    values = read_yaml(path)
    for override in overrides:
        override_with(values, override)
    return check(values, str(path))


def check(values: Any, source: str) -> Run:
    """Check the values of a config; ``source`` is named in the errors."""
    return check_section(Run, values, source)


def check_section(section: type[S], values: Any, source: str) -> S:
    """Check the values of any section.

    Raises:
        ConfigError: a line per mistake, with ``source``, key, value and what would be right.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {_say(one, values)}" for one in error.errors())) from None


def check_scheme(values: Mapping[str, Any]) -> Section:
    """Check the values of a ``class_scheme`` section by itself.

    Raises:
        ConfigError: a line per mistake; also for numbers by class that only a training set could give.
    """
    whole = {"class_scheme": dict(values)}
    try:
        scheme: Section = TypeAdapter(ClassScheme).validate_python(whole["class_scheme"])
    except ValidationError as error:
        lines = (_say({**one, "loc": ("class_scheme", *one["loc"])}, whole) for one in error.errors())
        raise ConfigError("\n".join(lines)) from None
    if getattr(scheme, "class_counts", None) == "data":
        raise ConfigError(
            "class_scheme.class_counts: give the boxes of each class, e.g. class_counts=[90,9,1]"
        )
    for key in ("class_weights", "pos_weight", "neg_weight"):
        if not isinstance(getattr(scheme, key, None), list | None):
            raise ConfigError(
                f"class_scheme.{key}: names and recipes need a training set; give a number for each class, "
                f"e.g. {key}=[1,2,5]"
            )
    return scheme


def scheme_settings(name: str) -> list[str]:
    """Say the settings of a class scheme, a line each: key, type, default, what it is.

    Raises:
        KeyError: no such scheme.
    """
    section = SCHEME_SECTIONS[name]
    lines = []
    for key, field in section.model_fields.items():
        if key != "name":
            default = "required" if field.is_required() else f"default {field.default}"
            meaning = " ".join((field.description or "").split())
            lines.append(f"{key}: {default}" + (f". {meaning}" if meaning else ""))
    return lines


def dump(run: Run) -> str:
    """Give the YAML of a run, every default spelled out."""
    return yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested sections as one mapping of dotted keys.

    Example:
        >>> flat({"seed": 0, "training": {"ema": {"decay": 0.9}}})
        {'seed': 0, 'training.ema.decay': 0.9}
    """
    keys: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        keys |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return keys


def shipped() -> dict[str, Path]:
    """Give the configs that come with dethead: name -> file."""
    return {path.stem: path for path in sorted(_shipped_folder().glob("*.yaml"))}


def shipped_ablations() -> dict[str, Path]:
    """Give the ablations that come with dethead: name -> file."""
    return {path.stem: path for path in sorted((_shipped_folder() / "ablations").glob("*.yaml"))}


def _shipped_folder() -> Path:
    package = Path(str(resources.files("dethead")))
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"  # a source checkout


def find(source: str | Path) -> Path:
    """Find a config by its path or, failing that, by the name of a shipped one."""
    return _find(source, "config", shipped(), (".", "configs"))


def find_ablation(source: str | Path) -> Path:
    """Find an ablation by its path or, failing that, by the name of a shipped one."""
    return _find(source, "ablation", shipped_ablations(), (".", "ablations", "configs/ablations"))


def _find(source: str | Path, kind: str, known: Mapping[str, Path], folders: Sequence[str]) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.stem in known and path.suffix in ("", ".yaml") and path.parent.as_posix() in folders:
        return known[path.stem]
    close = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"shipped: {', '.join(known)}"
    if kind == "config" and path.stem in shipped_ablations():
        hint = "it is an ablation, which `dethead ablate` runs"
    raise ConfigError(f"{source}: no such {kind} file; {hint}")


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key given twice, where YAML readers keep the last value in silence."""


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # what it brings in may be overwritten
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key must be a word, got {key!r}", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file as it is, unchecked.

    Raises:
        ConfigError: not readable, a key that is given twice, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Read a mapping from YAML as it is, unchecked; ``source`` is named in the errors.

    Raises:
        ConfigError: not readable, a key that is given twice, or no mapping.
    """
    try:
        values = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, a number that is none
        raise ConfigError(f"{source}: not readable as YAML: {_fault(error, text)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: must be a mapping of sections, got {type(values).__name__}")
    return values


def _fault(error: yaml.YAMLError | ValueError, text: str) -> str:
    """Where and what, in one line; the reader itself would call any text "<unicode string>"."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, whole = error.problem_mark, error.context_mark
        began = "" if whole is None else f" ({error.context} from line {whole.line + 1} on)"
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{began}"
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: character {text[error.position]!r}: {error.reason}"
    return " ".join(str(error).split())


def override_with(values: dict[str, Any], override: str) -> None:
    """Lay one ``key.sub=value`` over the values of a file.

    Raises:
        ConfigError: text of another form.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override must look like key.sub=value")
    try:
        value = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"{override!r}: the value is not readable as YAML") from None
    set_key(values, key, value)


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Put one value at a dotted key; what was there, also a whole section, is gone.

    Raises:
        ConfigError: the key leads through something that is no section.
    """
    *path, last = key.split(".")
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {part!r} is a value, not a section")
        values = inner
    values[last] = value


def _say(error: Mapping[str, Any], values: Any) -> str:
    """One mistake in one line: the key's path, what is wrong, the value, what is allowed."""
    place = _place(error["loc"], values)
    message = str(error["msg"]).removeprefix("Value error, ")
    value = error["input"]
    if error["type"] == UNKNOWN_NAME:
        names = error["ctx"]["names"].split(", ")
        return f"{place}.name: {_unknown_name(value, names)}"
    if error["type"] in ("value_error", "missing") or isinstance(value, dict):
        return f"{place}: {message}"  # these name the value themselves, or have none
    hint = ""
    if isinstance(value, str) and error["type"].startswith("float") and _is_number(value):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)"
    if isinstance(value, bool) and error["type"] == "literal_error":
        hint = ' (YAML reads no as False: write "no")'
    return f"{place}: {message}, got {value!r}{hint}"


def _place(location: Sequence[str | int], values: Any) -> str:
    """Dotted path of a key; without the tags by which pydantic says which kind of section it took."""
    path = []
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(values, dict) and part not in values and not last:
            continue
        if isinstance(values, dict) and values.get("name") == part and part not in values:
            continue
        path.append(str(part))
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
    return ".".join(path) or "top level"


def _unknown_name(section: Any, names: Sequence[str]) -> str:
    if not isinstance(section, dict) or "name" not in section:
        return f"missing; give one of {', '.join(names)}"
    name = section["name"]
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(names)}"
    return f"unknown name {name!r}; {hint}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
