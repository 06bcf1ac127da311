"""`aegis audit`: what an auditor does with a log, offline, without the rest of the product. Imports no gRPC."""

from commands.audit.command import command

__all__ = ["command"]
