"""The settings: typed classes, and how they are loaded, checked and explained."""

from athens_tx.config.explain import as_json, as_toml, changes
from athens_tx.config.load import Loaded, load
from athens_tx.config.settings import Config
from athens_tx.errors import ConfigError

__all__ = ["Config", "ConfigError", "Loaded", "as_json", "as_toml", "changes", "load"]
