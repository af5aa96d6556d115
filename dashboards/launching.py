"""Placeholder until merged."""

from dataclasses import dataclass


class LaunchError(RuntimeError): ...


@dataclass
class Launcher:
    allowed: bool = False
    address: str | None = None

    def launches(self):
        return []

    def log(self, sweep):
        return ""

    def check(self, text):
        raise LaunchError("not yet")
