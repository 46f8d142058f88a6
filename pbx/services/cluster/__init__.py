"""Several PBXs on one database: who is there, and how requests get from one to the other."""

from pbx.services.cluster.service import Cluster
from pbx.services.cluster.settings import ClusterSettings

__all__ = ["Cluster", "ClusterSettings"]
