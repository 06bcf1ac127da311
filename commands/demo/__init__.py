"""`aegis demo`: the whole product, two prompts, and the proof."""

from commands.demo.command import command

__all__ = ["command"]
