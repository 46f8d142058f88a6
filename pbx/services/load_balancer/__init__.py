"""Calls spread over nodes by counted dialogs."""

from pbx.services.load_balancer.service import LoadBalancer
from pbx.services.load_balancer.settings import LoadBalancerSettings

__all__ = ["LoadBalancer", "LoadBalancerSettings"]
