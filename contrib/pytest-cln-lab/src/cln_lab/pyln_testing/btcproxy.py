"""``pyln.testing.btcproxy``."""

from ..bitcoin import BitcoinRpcProxy, JSONRPCError

__all__ = ["BitcoinRpcProxy", "JSONRPCError"]
