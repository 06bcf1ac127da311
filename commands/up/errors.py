"""Why the product does not come up, or does not stay up.

UpError                every one of them; the message says what to do
├── DirectoryInUseError    another `aegis up` works in this directory
├── NotReadyError          not ready in time; the message holds what is missing
├── PushRefusedError       the policies were not accepted; the message is what `aegis policy push` said
└── ProgramFailedError     a program died again and again; the message holds the end of its log
"""


class UpError(Exception):
    """Shown to the user as it is."""


class DirectoryInUseError(UpError):
    """Two sequencers on one log would be worse than none."""


class NotReadyError(UpError):
    """The time is over."""


class PushRefusedError(UpError):
    """Without policies the sidecar refuses everything."""


class ProgramFailedError(UpError):
    """Restarting does not help."""
