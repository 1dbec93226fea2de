"""What a config file may say, and how it is read.

A config is one complete run. Shipped files spell out what they decide; a user's file may leave out every key
that has a default. ``load`` reads a file, lays ``key.sub=value`` overrides over it and checks the whole.
"""

from dethead.config.reading import (
    ConfigError,
    check,
    check_scheme,
    check_section,
    dump,
    find,
    find_ablation,
    flat,
    load,
    override_with,
    parse_yaml,
    read_yaml,
    scheme_settings,
    set_key,
    shipped,
    shipped_ablations,
)
from dethead.config.sections import Run

__all__ = [
    "ConfigError",
    "Run",
    "check",
    "check_scheme",
    "check_section",
    "dump",
    "find",
    "find_ablation",
    "flat",
    "load",
    "override_with",
    "parse_yaml",
    "read_yaml",
    "scheme_settings",
    "set_key",
    "shipped",
    "shipped_ablations",
]
