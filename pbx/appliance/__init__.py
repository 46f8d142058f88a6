"""Builds everything and connects it; the only package that knows everybody.

`assembly` holds the order, and beside it is one module per layer: what the parts of that layer are
made of. Nothing that is built here is bound, read or written before the service starts.
"""

from pbx.appliance.assembly import Appliance, assemble, build
from pbx.appliance.foundation import Foundation
from pbx.appliance.transport import Listening, Ways

__all__ = ["Appliance", "Foundation", "Listening", "Ways", "assemble", "build"]
