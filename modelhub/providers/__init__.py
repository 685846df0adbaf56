"""One file a vendor: pure encoding and decoding around one line of the official SDK.

`Provider` is what all of them are made from, and what a provider in a package of your own is made from too.
"""

from modelhub.providers._answer import Answer
from modelhub.providers._base import Payload, Provider

__all__ = ["Answer", "Payload", "Provider"]
