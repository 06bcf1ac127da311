"""`aegis tunnel`: make keys, rotate and revoke them, see where they are, and try a tunnel.

Exit status: 0 all is well; 1 it is not, and what is printed says why; 2 the command was not understood.
"""

from commands.tunnel.command import command

__all__ = ["command"]
