"""Azurite, in memory, on free ports of the loopback interface."""

from local.azurite.server import Azurite, AzuriteError

__all__ = ["Azurite", "AzuriteError"]
