"""pyln-testing's helpers that stand alone."""

from __future__ import annotations

import socket
import threading
from decimal import Decimal
from typing import Any, Optional, Sequence, Set

from ..wait import wait_for


def only_one(arr: Sequence[Any]) -> Any:
    """The only member."""
    assert len(arr) == 1
    return arr[0]


def scid_to_int(scid: str) -> int:
    """``1x2x3`` as a number (BOLT 7)."""
    block, tx, output = (int(part) for part in scid.split("x"))
    return block << 40 | tx << 16 | output


def sync_blockheight(bitcoind: Any, nodes: Sequence[Any]) -> None:
    """Waits until these nodes have seen bitcoind's last block."""
    height = bitcoind.rpc.getblockcount()
    for node in nodes:
        wait_for(lambda: node.rpc.getinfo()["blockheight"] == height)


def mine_funding_to_announce(
    bitcoind: Any, nodes: Sequence[Any], num_blocks: int = 5, wait_for_mempool: Any = 0
) -> None:
    """Mines blocks so that a channel can be announced, and leaves no node behind."""
    bitcoind.generate_block(num_blocks - 1, wait_for_mempool)
    sync_blockheight(bitcoind, nodes)
    bitcoind.generate_block(1)


def wait_channel_quiescent(n1: Any, n2: Any) -> None:
    """Waits until the channel between the two has no HTLC."""
    for one, other in ((n1, n2), (n2, n1)):
        peer = other.info["id"]
        wait_for(lambda: only_one(one.rpc.listpeerchannels(peer)["channels"])["htlcs"] == [])


def get_tx_p2wsh_outnum(bitcoind: Any, tx: str, amount: int) -> Optional[int]:
    """The number of the output of this transaction that is a p2wsh of ``amount`` satoshi."""
    for out in bitcoind.rpc.decoderawtransaction(tx, True)["vout"]:
        p2wsh = out["scriptPubKey"]["type"] == "witness_v0_scripthash"
        if p2wsh and out["value"] == Decimal(amount) / 10**8:
            number: int = out["n"]
            return number
    return None


_lock = threading.Lock()
_reserved: Set[int] = set()


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def reserve_unused_port() -> int:
    """A port that nothing has now, and that was not given out before.

    A node's own are leased by the lab; this one is the test's. The next one is free, too:
    a bitcoind takes it for connections from Tor.
    """
    with _lock:
        while True:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                # A connection that this end closes first keeps the port in TIME_WAIT: the
                # kernel gives it to nobody who does not ask for it by number.
                with socket.create_connection(listener.getsockname()):
                    accepted, _ = listener.accept()
                    accepted.close()
                port: int = listener.getsockname()[1]
            if port not in _reserved and _is_free(port + 1):
                _reserved.add(port)
                return port


def drop_unused_port(port: int) -> None:
    """Gives back a port."""
    with _lock:
        _reserved.discard(port)
