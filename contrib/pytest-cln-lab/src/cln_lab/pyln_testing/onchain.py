"""Feerates, and what lightningd does on chain: pyln-testing's helpers for both."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..wait import wait_for


class OnchainMixin:
    """Of a ``LightningNode``."""

    bitcoin: Any
    daemon: Any
    rpc: Any
    may_reconnect: bool

    def restart(self, timeout: float = 10, clean: bool = True) -> None:
        raise NotImplementedError

    def set_feerates(self, feerates: Sequence[int], wait_for_effect: bool = True) -> None:
        """Has bitcoind estimate these, in satoshi per 1000 weight: urgent, normal, slow, and
        for 100 blocks; a fifth one is the least that it takes."""
        # bitcoind's are bitcoin per 1000 bytes.
        estimates = dict(zip((2, 6, 12, 100), (rate * 4 for rate in feerates)))

        def estimatesmartfee(request: Dict[str, Any]) -> Dict[str, Any]:
            feerate = Decimal(estimates.get(request["params"][0], 42)) / 10**8
            return {"id": request["id"], "error": None, "result": {"feerate": feerate}}

        proxy = self.daemon.rpcproxy
        proxy.mock_rpc("estimatesmartfee", estimatesmartfee)
        if len(feerates) > 4:
            least = feerates[4] * 4
            rate = Decimal(least) / 10**8
            proxy.mock_rpc("getmempoolinfo", {"mempoolminfee": rate, "minrelaytxfee": rate})
            if wait_for_effect:
                wait_for(lambda: self.rpc.feerates(style="perkb")["perkb"]["floor"] == least)
        if wait_for_effect:
            wait_for(lambda: proxy.mock_counts["estimatesmartfee"] >= 4)

    def force_feerates(self, rate: int) -> None:
        """Sets all feerates at once, by a restart."""
        assert self.may_reconnect
        self.set_feerates([rate] * 4, False)
        self.restart()
        self.daemon.wait_for_log("peer_out WIRE_UPDATE_FEE")
        assert self.rpc.feerates("perkw")["perkw"]["opening"] == rate

    def wait_for_onchaind_txs(self, *args: Tuple[str, str]) -> Tuple[Tuple[str, str, int], ...]:
        """Waits until onchaind has asked for these, pairs of a name and what it resolves;
        for each the transaction, its id, and how many blocks it has to wait."""
        needle = self.daemon.logsearch_start
        found: List[Tuple[str, str, int]] = []
        for name, resolve in args:
            self.daemon.logsearch_start = needle
            line = self.daemon.wait_for_log(f"Telling lightningd about {name} to resolve {resolve}")
            blocks = int(_group(r"\(([-0-9]*) more blocks\)", line))
            rawtx = _group(
                ".* tx ([0-9a-fA-F]*)", self.daemon.wait_for_log("Broadcast for onchaind tx")
            )
            txid = self.bitcoin.rpc.decoderawtransaction(rawtx, True)["txid"]
            found.append((rawtx, txid, blocks))
            line = self.daemon.wait_for_log("Deferring broadcast of txid|Broadcasting txid")
            if "Broadcasting txid" in line:
                self.daemon.wait_for_log(f"plugin-bcli: sendrawtx exit.*{rawtx}")
        return tuple(found)

    def wait_for_onchaind_tx(self, name: str, resolve: str) -> Tuple[str, str, int]:
        """:meth:`wait_for_onchaind_txs` for one."""
        return self.wait_for_onchaind_txs((name, resolve))[0]

    def wait_for_onchaind_broadcast(self, name: str, resolve: Optional[str] = None) -> None:
        """Waits until onchaind's transaction is in the mempool."""
        line = self.daemon.wait_for_log(f"Broadcasting {name} .* to resolve {resolve or ''}")
        rawtx = _group(r".* \(([0-9a-fA-F]*)\) ", line)
        txid = self.bitcoin.rpc.decoderawtransaction(rawtx, True)["txid"]
        wait_for(lambda: txid in self.bitcoin.rpc.getrawmempool())

    def mine_txid_or_rbf(self, txid: str, numblocks: int = 1) -> str:
        """Mines a transaction, or what has replaced it; the id of the one that was mined."""
        txids = [txid]

        def broadcast() -> bool:
            self.daemon.logs_catchup()
            for known in txids:
                regex = (
                    rf"RBF (?:onchain|HTLC) txid {known} \(fee [0-9]*sat\) with txid ([0-9a-fA-F]*)"
                )
                for new in re.findall(regex, "\n".join(self.daemon.logs)):
                    if new not in txids:
                        txids.append(new)
            mempool = self.bitcoin.rpc.getrawmempool()
            return any(one in mempool for one in txids)

        wait_for(broadcast)
        blocks = self.bitcoin.generate_block(numblocks)
        broadcast()
        for mined in self.bitcoin.rpc.getblock(blocks[0])["tx"]:
            if mined in txids:
                result: str = mined
                return result
        raise ValueError("None of the rbf txs were mined?")


def _group(regex: str, line: str) -> str:
    found = re.search(regex, line)
    if found is None:
        raise ValueError(f"no /{regex}/ in: {line}")
    return found.group(1)
