"""The lab's bitcoind as pyln-testing's ``BitcoinD``."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Optional, Union

from ..bitcoin import Bitcoind, BitcoinRpc, BitcoinRpcProxy
from ..log import Log
from ..serve import ask
from ..wait import wait_for
from .process import Proc, TailableProc

BITCOIND_CONFIG: Dict[str, Any] = {
    "regtest": 1,
    "rpcuser": "rpcuser",
    "rpcpassword": "rpcpass",
    "fallbackfee": Decimal(1000) / 10**8,
}

#: As pyln-testing's bitcoind has them.
OPTIONS = {"txindex": "1", "wallet": "lightningd-tests"}

SimpleBitcoinProxy = BitcoinRpc


def write_config(
    filename: str,
    opts: Mapping[str, Any],
    regtest_opts: Optional[Mapping[str, Any]] = None,
    section_name: str = "regtest",
) -> None:
    """Writes a configuration of bitcoind."""
    with open(filename, "w") as file:
        for name, value in opts.items():
            file.write(f"{name}={value}\n")
        if regtest_opts:
            file.write(f"[{section_name}]\n")
            for name, value in regtest_opts.items():
                file.write(f"{name}={value}\n")


class BitcoinD(TailableProc):
    """The bitcoind of the lab whose folder is ``bitcoin_dir``."""

    def __init__(self, bitcoin_dir: str, rpcport: Optional[int] = None) -> None:
        if rpcport is not None:
            raise ValueError(
                "rpcport: the lab leases bitcoind's port, so that tests never share one"
            )
        super().__init__(bitcoin_dir, verbose=False)
        self._bitcoind = Bitcoind(bitcoin_dir)
        self.bitcoin_dir = bitcoin_dir
        self.rpcport = self._bitcoind.port
        self.rpc = self._bitcoind.rpc
        self.prefix = "bitcoind"
        self.canned_blocks: Optional[List[str]] = None
        self.conf_file = os.path.join(bitcoin_dir, "bitcoin.conf")
        self.proxies: List[BitcoinRpcProxy] = []
        self.proc: Any = Proc(bitcoin_dir, None)
        self.log = Log(self._bitcoind.dir / "regtest/debug.log")
        BITCOIND_CONFIG.update(
            rpcport=self.rpcport, rpcuser=self._bitcoind.user, rpcpassword=self._bitcoind.password
        )

    def start(self, wallet_file: Optional[str] = None) -> None:  # type: ignore[override]
        """It runs already. If the test has put options into ``conf_file``, or has stopped it,
        it starts anew."""
        if wallet_file is not None:
            raise ValueError(
                "wallet_file: the lab's bitcoind has a wallet of its own; use rpc.restorewallet"
            )
        if self.proc.returncode is None:
            if not self._wanted():
                return
            self.stop()
        options = {**OPTIONS, **self._wanted()}
        ask(self.bitcoin_dir, "startbitcoind", options=list(options.items()))
        self.proc.returncode = None

    def _wanted(self) -> Dict[str, str]:
        """What the test wants of bitcoind beyond what it has."""
        try:
            with open(self.conf_file) as file:
                lines = [line.strip().split("=", 1) for line in file if "=" in line]
        except FileNotFoundError:
            return {}
        ours = {"regtest", "rpcuser", "rpcpassword", "rpcport", "fallbackfee"}
        return {name: value for name, value in lines if name not in ours}

    def stop(self, timeout: float = 10) -> int:
        """Stops it; its exit code."""
        for proxy in self.proxies:
            proxy.stop()
        self.proxies = []
        if self.proc.returncode is None:
            self.proc.returncode = os.waitstatus_to_exitcode(self._bitcoind.stop())
        code: int = self.proc.returncode
        return code

    def get_proxy(self) -> BitcoinRpcProxy:
        """A proxy before it, whose answers can be mocked."""
        proxy = BitcoinRpcProxy(self.rpcport)
        self.proxies.append(proxy)
        return proxy

    def set_canned_blocks(self, blocks: Optional[List[str]]) -> None:
        """Blocks to "generate" from now on; ``None`` for new ones."""
        self.canned_blocks = blocks

    def generate_block(
        self,
        numblocks: int = 1,
        wait_for_mempool: Union[int, str, List[str]] = 0,
        to_addr: Optional[str] = None,
        needfeerate: Optional[float] = None,
    ) -> Any:
        """Mines, after so many transactions, or these, are in the mempool."""
        if wait_for_mempool:
            wanted = [wait_for_mempool] if isinstance(wait_for_mempool, str) else wait_for_mempool
            if isinstance(wanted, list):
                self._bitcoind.wait_for_mempool(wanted)
            else:
                count = int(wanted)
                wait_for(lambda: len(self.rpc.getrawmempool()) >= count)
        if self.canned_blocks is not None:
            hashes = []
            for _ in range(numblocks):
                self.rpc.submitblock(self.canned_blocks.pop(0))
                hashes.append(self.rpc.getbestblockhash())
            return hashes
        to_addr = to_addr or self.rpc.getnewaddress()
        if needfeerate is not None:
            assert numblocks == 1
            if not any(_feerate(tx) >= needfeerate for tx in self.rpc.getrawmempool(True).values()):
                return self.rpc.generateblock(to_addr, [])
        return self.rpc.generatetoaddress(numblocks, to_addr)

    def send_and_mine_block(self, addr: str, sats: Union[int, Decimal]) -> str:
        """Sends satoshi, and mines; the transaction's id."""
        if self.canned_blocks:
            self.generate_block(1)
            block = self.rpc.getblock(self.rpc.getbestblockhash())
            for txid in block["tx"][1:]:
                for out in self.rpc.getrawtransaction(txid, 1)["vout"]:
                    if out["scriptPubKey"].get("address") == addr:
                        found: str = txid
                        return found
            raise AssertionError(f"No address {addr} in block {block}")
        sent: str = self.rpc.sendtoaddress(addr, Decimal(int(sats)) / 10**8)
        self.generate_block(1)
        return sent

    def simple_reorg(self, height: int, shift: int = 0) -> List[str]:
        """Replaces the chain from ``height`` on, with the transactions ``shift`` blocks later;
        the new blocks' hashes."""
        assert self.canned_blocks is None
        length = self.rpc.getblockcount()
        final = height + shift if height + shift > length else 1 + length
        self.rpc.invalidateblock(self.rpc.getblockhash(height))
        if shift == 0:
            hashes: List[str] = self.generate_block(1 + final - height)
            return hashes
        held = self.rpc.getrawmempool()
        for txid in held:
            self.rpc.prioritisetransaction(txid, None, -1_000_000)
        hashes = self.generate_block(shift)
        for txid in held:
            self.rpc.prioritisetransaction(txid, None, 1_000_000)
        hashes += self.generate_block(1 + final - (height + shift))
        return hashes

    def getnewaddress(self) -> Any:
        """An address of its wallet."""
        return self.rpc.getnewaddress()

    def save_blocks(self) -> List[str]:
        """All blocks, for :meth:`restore_blocks`."""
        heights = range(1, self.rpc.getblockcount() + 1)
        return [self.rpc.getblock(self.rpc.getblockhash(height), False) for height in heights]

    def restore_blocks(self, blocks: List[str]) -> None:
        """Gives bitcoind these blocks."""
        for block in blocks:
            self.rpc.submitblock(block)


def _feerate(tx: Mapping[str, Any]) -> float:
    """Of a transaction in the mempool with its ancestors, in satoshi per 1000 weight."""
    return float(tx["fees"]["ancestor"]) * 10**8 / (float(tx["ancestorsize"]) * 4 / 1000)


class ElementsD(BitcoinD):
    """Refused: a lab is on regtest."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ValueError("ElementsD is not to be had with cln_lab: a lab is on bitcoin's regtest")
