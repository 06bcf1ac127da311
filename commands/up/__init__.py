"""`aegis up`: the whole product in front of one model server, on one machine."""

from commands.up.command import command

__all__ = ["command"]
