"""The settings: typed classes, and how they are loaded, checked and explained."""

from athens_tx.config.settings import Config

__all__ = ["Config"]
