"""A second PostHog stand-in, written from the recorded facts alone.

It exists so that a misreading shared by the bundled simulator and the client shows up somewhere. It must therefore
not import, and was not written after reading, anything of either.
"""

from .api import SecondServer
from .rows import Row
from .server import second_server

__all__ = ["Row", "SecondServer", "second_server"]
