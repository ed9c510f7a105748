"""A node as pyln-testing's ``LightningNode``."""

from __future__ import annotations

import logging
import os
import random
import re
import string
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from pyln.client import Millisatoshi, RpcError

from ..serve import Refused, ask
from ..wait import TIMEOUT, wait_for
from .bitcoind import BitcoinD
from .db import Sqlite3Db
from .helpers import only_one
from .lightningd import LightningD, PrettyPrintingLightningRpc, Unavailable
from .onchain import OnchainMixin
from .settings import EXPERIMENTAL_DUAL_FUND

FUNDAMOUNT = 10**6


class LightningNode(OnchainMixin):
    """A node of the test's lab."""

    def __init__(
        self,
        node_id: int,
        lightning_dir: str,
        bitcoind: BitcoinD,
        executor: Any,
        daemon: LightningD,
        db: Sqlite3Db,
        lightningd: bool = True,
        may_fail: bool = False,
        may_reconnect: bool = False,
        broken_log: Optional[str] = None,
        allow_broken_log: bool = False,
        allow_warning: bool = False,
        allow_bad_gossip: bool = False,
        bad_notifications: bool = False,
        disconnect: Optional[Sequence[str]] = None,
        options: Optional[Mapping[str, Any]] = None,
        jsonschemas: Any = None,
    ) -> None:
        self.bitcoin = bitcoind
        self.executor = executor
        self.daemon = daemon
        self.db = db
        self.may_fail = may_fail
        self.may_reconnect = may_reconnect
        self.broken_log = ".*" if allow_broken_log else broken_log
        self.allow_warning = allow_warning
        self.allow_bad_gossip = allow_bad_gossip
        self.bad_notifications = bad_notifications
        self.disconnect = disconnect
        self.lightning_dir = Path(lightning_dir)
        self.cln_version = daemon.cln_version
        #: Its last exit code.
        self.rc: Optional[int] = 0
        self.info: Dict[str, Any] = {}
        socket = self.lightning_dir / "regtest" / "lightning-rpc"
        self.rpc = PrettyPrintingLightningRpc(str(socket), executor, jsonschemas)
        opts = daemon.opts
        if disconnect:
            opts["dev-disconnect"] = str(self.lightning_dir / "regtest" / "dev-disconnect")
        if lightningd:
            opts["dev-fail-on-subdaemon-fail"] = None
            if not may_reconnect:
                opts["dev-no-reconnect"] = None
            if EXPERIMENTAL_DUAL_FUND:
                opts["experimental-dual-fund"] = None
            if self.cln_version >= "v24.11":
                opts["autoconnect-seeker-peers"] = 0
        opts.update(options or {})
        if bitcoind.canned_blocks is not None:
            opts["dev-ignore-ibd"] = True

    @property
    def port(self) -> int:
        """The port on which peers reach it."""
        return int(self.daemon.port)

    @property
    def gossip_store(self) -> Any:
        raise Unavailable(
            "gossip_store", "its format is lightningd's own; ask rpc.listchannels and rpc.listnodes"
        )

    @property
    def grpc(self) -> Any:
        raise Unavailable(
            "grpc", "it needs grpcio; set the option grpc-port, and connect with pyln-grpc-proto"
        )

    def query_gossip(self, *_: Any, **__: Any) -> Any:
        raise Unavailable(
            "query_gossip", "it runs tools of lightningd's source tree, which are not installed"
        )

    def start(self, wait_for_bitcoind_sync: bool = True, stderr_redir: bool = False) -> None:
        """Starts it, and waits until it is ready and has seen the chain."""
        if "dev-disconnect" in self.daemon.opts:
            with open(self.daemon.opts["dev-disconnect"], "w") as file:
                file.write("\n".join(self.disconnect or []))
        self.daemon.start(stderr_redir=stderr_redir)
        self.info = self.rpc.getinfo()

    def stop(self, timeout: float = 10) -> Optional[int]:
        """Stops it; its exit code.

        :raises ValueError: if that is not 0, unless it may fail.
        """
        proc = self.daemon.proc
        if proc is not None and proc.returncode is None:
            try:
                status = ask(self.daemon.lab, "stop", node=self.daemon.name)
                proc.returncode = os.waitstatus_to_exitcode(status)
            except Refused:
                # It did not answer, and was killed.
                proc.returncode = -9
        self.rc = proc.returncode if proc is not None else 0
        self.daemon.cleanup()
        if self.rc != 0 and not self.may_fail:
            raise ValueError(f"Node did not exit cleanly, rc={self.rc}")
        return self.rc

    def restart(self, timeout: float = 10, clean: bool = True) -> None:
        """Stops it (without ``clean`` by SIGTERM), and starts it again."""
        if clean:
            self.stop(timeout)
        else:
            self.daemon.stop()
        self.start()

    def kill(self) -> None:
        """Kills it and what it started, as a power cut would."""
        ask(self.daemon.lab, "kill9", node=self.daemon.name)
        assert self.daemon.proc is not None
        self.daemon.proc.returncode = -9

    def connect(self, remote_node: LightningNode) -> None:
        """Connects to another node."""
        self.rpc.connect(remote_node.info["id"], "127.0.0.1", remote_node.port)

    def is_connected(self, remote_node: LightningNode) -> bool:
        """Whether it is connected to that node."""
        return remote_node.info["id"] in [p["id"] for p in self.rpc.listpeers()["peers"]]

    def fundwallet(
        self, sats: int, addrtype: str = "bech32", mine_block: bool = True
    ) -> Tuple[str, str]:
        """Sends it coins; the address, and the transaction's id."""
        addr: str = self.rpc.newaddr(addrtype)[addrtype]
        if not mine_block:
            return addr, self.bitcoin.rpc.sendtoaddress(addr, Decimal(int(sats)) / 10**8)
        txid = self.bitcoin.send_and_mine_block(addr, sats)
        wait_for(
            lambda: any(t["hash"] == txid for t in self.rpc.listtransactions()["transactions"])
        )
        return addr, txid

    def openchannel(
        self,
        remote_node: LightningNode,
        capacity: int = FUNDAMOUNT,
        addrtype: str = "bech32",
        confirm: bool = True,
        wait_for_announce: bool = True,
        connect: bool = True,
    ) -> Dict[str, Any]:
        """Opens a channel; ``address``, ``wallettxid``, ``fundingtx``."""
        addr, wallettxid = self.fundwallet(10 * capacity, addrtype)
        if connect and not self.is_connected(remote_node):
            self.connect(remote_node)
        peer = remote_node.info["id"]
        res = self.rpc.fundchannel(peer, capacity)
        if confirm or wait_for_announce:
            self.bitcoin.generate_block(1, wait_for_mempool=res["txid"])
        if wait_for_announce:
            self.bitcoin.generate_block(5)
            wait_for(lambda: ["alias" in e for e in self.rpc.listnodes(peer)["nodes"]] == [True])
        return {"address": addr, "wallettxid": wallettxid, "fundingtx": res["tx"]}

    def fundchannel(
        self,
        l2: LightningNode,
        amount: int = FUNDAMOUNT,
        wait_for_active: bool = True,
        announce_channel: bool = True,
        **kwargs: Any,
    ) -> Tuple[str, Dict[str, Any]]:
        """Opens a channel that both can use; its short channel id, and ``fundchannel``'s answer."""
        addr = self.rpc.newaddr("bech32")["bech32"]
        self.bitcoin.send_and_mine_block(addr, amount + 1_000_000)
        wait_for(lambda: addr in [o["address"] for o in self.rpc.listfunds()["outputs"]])
        if not self.is_connected(l2):
            self.connect(l2)
        res = self.rpc.fundchannel(l2.info["id"], amount, announce=announce_channel, **kwargs)
        scid = self._mined(res)
        if wait_for_active:
            self.wait_local_channel_active(scid)
            l2.wait_local_channel_active(scid)
        return scid, res

    def _mined(self, funded: Dict[str, Any]) -> str:
        """Mines a channel's transaction; its short channel id."""
        hashes = self.bitcoin.generate_block(1, wait_for_mempool=funded["txid"])
        block = self.bitcoin.rpc.getblock(hashes[0])
        return f"{block['height']}x{block['tx'].index(funded['txid'])}x{funded['outnum']}"

    def fundbalancedchannel(
        self, remote_node: LightningNode, total_capacity: Any = FUNDAMOUNT, announce: bool = True
    ) -> str:
        """Opens a channel of which each has half; its short channel id."""
        if isinstance(total_capacity, Millisatoshi):
            total_capacity = total_capacity.to_satoshi()
        capacity = int(total_capacity)
        self.fundwallet(capacity + 35_000)
        if remote_node.config("experimental-dual-fund"):
            remote_node.fundwallet(capacity + 35_000)
            capacity //= 2
            policy = {"policy": "match", "policy_mod": 100, "fuzz_percent": 0}
            remote_node.rpc.call("funderupdate", policy)
        if not self.is_connected(remote_node):
            self.connect(remote_node)
        return self._mined(
            self.rpc.fundchannel(
                remote_node.info["id"],
                capacity,
                feerate="slow",
                minconf=0,
                announce=announce,
                push_msat=Millisatoshi(capacity * 500),
            )
        )

    def db_query(self, query: str) -> List[Dict[str, Any]]:
        """The rows of a query of its database."""
        return self.db.query(query)

    def db_manip(self, query: str) -> None:
        """Changes its database, while it is down."""
        self.db.execute(query)

    def is_synced_with_bitcoin(self, info: Optional[Mapping[str, Any]] = None) -> bool:
        """Whether it has seen the chain."""
        info = self.rpc.getinfo() if info is None else info
        return "warning_bitcoind_sync" not in info and "warning_lightningd_sync" not in info

    def subd_pid(self, subd: str, peerid: Optional[str] = None) -> str:
        """The process id of one of lightningd's daemons, of the last one in the log."""
        self.daemon.logs_catchup()
        regex = f"{peerid}-.*{subd}.*: pid ([0-9]*)," if peerid else f"{subd}-.*: pid ([0-9]*),"
        for line in reversed(self.daemon.logs):
            found = re.search(regex, line)
            if found:
                return found.group(1)
        raise ValueError(f"No daemon {subd} found")

    def _channel(self, other: LightningNode, field: str) -> Any:
        channels = self.rpc.listpeerchannels(other.info["id"])["channels"]
        return channels[0][field] if channels else None

    def channel_state(self, other: LightningNode) -> Any:
        """The state of the first channel with that node."""
        return self._channel(other, "state")

    def get_channel_scid(self, other: LightningNode) -> Any:
        """The short channel id of the first channel with that node."""
        return self._channel(other, "short_channel_id")

    def get_channel_id(self, other: LightningNode) -> Any:
        """The channel id of the first channel with that node."""
        return self._channel(other, "channel_id")

    def is_local_channel_active(self, scid: str) -> bool:
        """Whether its channel can be used."""
        for channel in self.rpc.listpeerchannels()["channels"]:
            if channel.get("short_channel_id") == scid:
                usable = channel["state"] in ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")
                # The peer's fees have come, which v24.02 and later show.
                known = self.cln_version < "v24.02" or "remote" in channel.get("updates", {})
                return usable and known
        return False

    def wait_local_channel_active(self, scid: str) -> None:
        """Waits until its channel can be used."""
        wait_for(lambda: self.is_local_channel_active(scid), what=f"{scid} to be active")

    def is_channel_active(self, chanid: str) -> bool:
        """Whether gossip has shown both directions of a channel."""
        channels = self.rpc.listchannels(chanid)["channels"]
        active = [c["channel_flags"] for c in channels if c["active"]]
        return 0 in active and 1 in active

    def wait_channel_active(self, scid: str) -> None:
        """Waits until gossip has shown both directions of a channel."""
        wait_for(lambda: self.is_channel_active(scid), what=f"gossip about {scid}")

    def alias_of(self, node_id: str) -> Optional[str]:
        """The alias that gossip has shown it of a node."""
        nodes = self.rpc.listnodes(node_id)["nodes"]
        alias: Optional[str] = nodes[0].get("alias") if nodes else None
        return alias

    def wait_for_channel_onchain(self, peerid: str) -> None:
        """Waits until the closing transaction is in the mempool."""

        def there() -> bool:
            channel = only_one(self.rpc.listpeerchannels(peerid)["channels"])
            return channel["scratch_txid"] in self.bitcoin.rpc.getrawmempool()

        wait_for(there)

    def wait_for_channel_updates(self, scids: Sequence[str]) -> None:
        """Waits until gossipd has both updates of each."""
        regexs = [f"Received channel_update for channel {c}/{d}" for c in scids for d in (0, 1)]
        self.daemon.wait_for_logs(regexs)

    def wait_for_route(self, destination: LightningNode, timeout: float = TIMEOUT) -> bool:
        """Waits until there is a route to that node."""

        def found() -> bool:
            try:
                self.single_route(destination.info["id"], 1)
                return True
            except (RpcError, AssertionError):
                return False

        return wait_for(found, timeout, "a route")

    def single_route(self, node_id: str, amount_msat: int, cltv: int = 9) -> Any:
        """A route to that node in one part."""
        routes = self.rpc.getroutes(
            source=self.info["id"],
            destination=node_id,
            amount_msat=amount_msat,
            layers=["auto.localchans", "auto.sourcefree"],
            maxfee_msat=10_000_000,
            final_cltv=cltv,
            maxparts=1,
        )
        return only_one(routes["routes"])["path"]

    def wait_for_htlcs(self, scids: Optional[Sequence[str]] = None) -> None:
        """Waits until no HTLC is left, on these channels or on all."""

        def settled() -> bool:
            channels = self.rpc.listpeerchannels()["channels"]
            chosen = [c for c in channels if scids is None or c.get("short_channel_id") in scids]
            return not any(c.get("htlcs") for c in chosen)

        wait_for(settled, what="HTLCs to settle")

    def pay(self, dst: LightningNode, amt: Any, label: Optional[str] = None) -> None:
        """Pays a peer over the channel with it, and waits until the HTLC is gone."""
        label = label or "".join(random.choices(string.ascii_letters + string.digits, k=20))
        peer = dst.info["id"]
        invoice = dst.rpc.invoice(amt, label, label)
        channels = self.rpc.listpeerchannels(peer)["channels"]
        scid = [c["short_channel_id"] for c in channels if c["state"] == "CHANNELD_NORMAL"][0]
        step = {"amount_msat": amt, "id": peer, "delay": 5, "channel": scid}
        payment_hash = invoice["payment_hash"]
        secret, bolt11 = invoice["payment_secret"], invoice["bolt11"]
        self.rpc.sendpay([step], payment_hash, payment_secret=secret, bolt11=bolt11)
        assert self.rpc.waitsendpay(payment_hash).get("status") == "complete"
        dst.wait_for_htlcs()

    def drain(self, peer: LightningNode) -> int:
        """Pays a peer until not 1 msat gets through; the sum."""
        total, msat = 0, 4_294_967_295
        while msat != 0:
            try:
                self.pay(peer, msat)
                total += msat
            except RpcError as error:
                logging.debug("draining: %s", error)
                msat //= 2
        return total

    def config(self, config_name: str) -> Any:
        """An option's value, as ``listconfigs`` has it; ``None`` if there is no such option."""
        try:
            config = self.rpc.listconfigs(config_name)["configs"][config_name]
        except RpcError:
            return None
        kinds = ("set", *(f"{n}_{t}" for n in ("value", "values") for t in ("str", "bool", "int")))
        for kind in kinds:
            if kind in config:
                return config[kind]
        raise ValueError(f"Unknown value in config {config}")

    def dev_pay(
        self,
        bolt11: str,
        amount_msat: Any = None,
        label: Optional[str] = None,
        riskfactor: Any = None,
        maxfeepercent: Any = None,
        retry_for: Optional[int] = None,
        maxdelay: Optional[int] = None,
        exemptfee: Any = None,
        dev_use_shadow: bool = True,
        exclude: Sequence[str] = (),
    ) -> Any:
        """``pay`` with its developer's parameters."""
        return self.rpc.dev_pay(
            bolt11,
            amount_msat,
            label,
            riskfactor,
            maxfeepercent,
            retry_for,
            maxdelay,
            exemptfee,
            dev_use_shadow,
            list(exclude),
        )

    def dev_invoice(
        self,
        amount_msat: Any,
        label: str,
        description: str,
        expiry: Optional[int] = None,
        fallbacks: Any = None,
        preimage: Optional[str] = None,
        exposeprivatechannels: Any = None,
        cltv: Optional[int] = None,
        dev_routes: Any = None,
    ) -> Any:
        """``invoice`` with its developer's parameters."""
        return self.rpc.call(
            "invoice",
            {
                "amount_msat": amount_msat,
                "label": label,
                "description": description,
                "expiry": expiry,
                "fallbacks": fallbacks,
                "preimage": preimage,
                "exposeprivatechannels": exposeprivatechannels,
                "cltv": cltv,
                "dev-routes": dev_routes,
            },
        )
