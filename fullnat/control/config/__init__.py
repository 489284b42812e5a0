# SPDX-License-Identifier: Apache-2.0
"""The configuration: a TOML file becomes a frozen Config, or a list of every mistake in it.

Theory.  A file passes four stages, and only the first two can end the run early, as nothing can be
read from what is not TOML:

  read      bytes -> text                     ConfigError with one line             load.py
  parse     text -> document (tomllib)        ConfigError with one line             load.py
  validate  document -> tables (pydantic)     what one value shows by itself:
                                              types, ranges, spelling               validate.py
  build     tables -> Config                  what takes two values to see,
                                              and the warnings                      build.py

A document with mistakes is built all the same, with stand-ins for the values that were refused
(see validate.py), so that the checks of the last stage see everything that is sound.

Rules.
  1. Every problem is one line that names file, line, key, what was found and what is accepted.
  2. The words are the operator's: keys as in the file, values as TOML writes them.
  3. Whoever holds a Config need not check it again.

Refused.  Model validators for the cross checks: pydantic skips them as soon as a field fails, and
          the operator would meet the second mistake only after mending the first.

The file.   schema: its tables · values: the types of their values · value_type: what such a type is ·
            supported: what of it this version carries out · toml_lines: where each key stands ·
            services: the part of build that is about one service.
The answer. model: the Config · problems: what is wrong · wording: how keys and values are printed.
"""

from __future__ import annotations

from fullnat.control.config.load import load_config
from fullnat.control.config.model import (
    Config,
    EngineConfig,
    KernelServiceConfig,
    LimitsConfig,
    ServerConfig,
    ServiceConfig,
    SnatConfig,
)
from fullnat.control.config.problems import ConfigError, Problem
from fullnat.control.config.schema import json_schema

__all__ = [
    "Config",
    "ConfigError",
    "EngineConfig",
    "KernelServiceConfig",
    "LimitsConfig",
    "Problem",
    "ServerConfig",
    "ServiceConfig",
    "SnatConfig",
    "json_schema",
    "load_config",
]
