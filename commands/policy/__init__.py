"""`aegis policy`: check, compare, push and roll back policies, and see who runs what.

Exit status: 0 all is well; 1 there are findings, or the control plane refused; 2 the command was not understood.
"""

from commands.policy.command import command

__all__ = ["command"]
