"""Files that only their owner may read, from their first moment and whole."""

import os
import tempfile
from pathlib import Path


def scratch_beside(path: Path, content: bytes) -> Path:
    """A new file (0600) in the directory of `path` that holds `content` and survives a crash. Raises OSError.

    To be renamed or linked to `path`, which is when it counts; whoever asked for it removes it otherwise.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        scratch.unlink()
        raise
    return scratch
