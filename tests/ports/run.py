#!/usr/bin/env python3
"""kcptun for other machines, run for real: for Windows under wine, for MIPS and ARM under qemu, and the unit tests for i686. It
takes root and a chroot with wine, qemu, cross compilers and this project bound at /port.

    tests/ports/run.py CHROOT                 everything: build, then each case
    tests/ports/run.py CHROOT --list          the cases
    tests/ports/run.py CHROOT [--no-build] NAME...    these cases, by the beginning of their names

The cases run in a network namespace of their own. The last line says how many have failed; so does the exit status.
"""
import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

MEGABYTES = 20
TARGETS = "/root/target"
PREFIXES = ["/root/wp", "/root/wp-far"]
WINE = ["env", f"WINEPREFIX={PREFIXES[0]}", "WINEDEBUG=-all", "DISPLAY=", "XDG_RUNTIME_DIR=/tmp", "wine64"]
WINESERVER = "/usr/lib/x86_64-linux-gnu/wine/wineserver"
WINDOWS = "x86_64-pc-windows-gnu"
MUSL = {"mipsel": "mipsel-unknown-linux-musl", "arm": "armv7-unknown-linux-musleabihf"}
# these as examples/openwrt/build.sh makes them
SCRIPTED = {"mips": "mips-unknown-linux-musl", "aarch64": "aarch64-unknown-linux-musl"}
KEY = "c8tMEt7Oa1mbBtNDPMBDCHS4Y7yBYDn2nLmHTxbX6dA="
CASES = []
started = []


class Failure(Exception):
    pass


def case(function):
    CASES.append(function)
    return function


def need(holds, what):
    if not holds:
        raise Failure(what)


def eventually(holds, what, seconds=30):
    end = time.monotonic() + seconds
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.05)


# -- programs in the chroot --------------------------------------------------------------------------------------------


def inside(words, space=None):
    enter = ["nsenter", "-t", str(space), "-n"] if space else []
    return [*enter, "nice", "-n", "10", "chroot", ROOT, "env", "HOME=/root", *words]


class Program:
    """What runs kcptun of one machine. `bind`, `to`: its UDP sockets on IPv4; wine knows those of IPv6 only, which take both."""

    def __init__(self, by, binary, bind, to):
        self.by, self.binary, self.bind, self.to = by, binary, bind, to

    def words(self, *arguments):
        return [*self.by, self.binary, *arguments]

    def run(self, *arguments, seconds=60):
        """The exit status and what it prints. That goes to a file: wine's own processes may hold a pipe open for ever."""
        with tempfile.TemporaryFile() as out:
            words = inside(self.words(*arguments))
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=seconds)
            out.seek(0)
            return done.returncode, out.read().decode(errors="replace").replace("\r", "")


def windows(prefix=PREFIXES[0]):
    """All processes of a prefix have their sockets in one, and so in one network namespace."""
    wine = [f"WINEPREFIX={prefix}" if word.startswith("WINEPREFIX") else word for word in WINE]
    return Program(wine, f"{TARGETS}/{WINDOWS}/debug/kcptun.exe", ":1000", "localhost:1000")


@contextlib.contextmanager
def wine_kept():
    """Keeps wine's own processes alive: they go a while after the last program, and who comes meanwhile fails or waits in vain.
    Then it ends them, since wine may keep a socket of a process that was killed."""
    words = inside([*WINE, "cmd", "/c", "echo ready & pause"])
    keeper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    keeper.stdout.readline()
    try:
        yield
    finally:
        keeper.kill()
        keeper.wait()
        for prefix in PREFIXES:
            end_wine(prefix)


def end_wine(prefix):
    """Ends wine's own processes."""
    for option in ("-k", "-w"):
        words = ["env", f"WINEPREFIX={prefix}", WINESERVER, option]
        subprocess.run(inside(words), stderr=subprocess.DEVNULL, timeout=60)


def qemu(machine):
    target, profile = (MUSL[machine], "debug") if machine in MUSL else (SCRIPTED[machine], "release")
    binary = f"{TARGETS}/{target}/{profile}/kcptun"
    return Program([f"qemu-{machine}"], binary, "127.0.0.1:1000", "127.0.0.1:1000")


class Daemon:
    """A running kcptun with its log; killed at the end of the case if it still runs."""

    def __init__(self, program, name, config, space=None):
        self.program, self.name, self.space = program, name, space
        self.file = f"/root/ports/{name}.json"
        with open(ROOT + self.file, "w") as file:
            json.dump({"psk": KEY, **config}, file)
        os.chmod(ROOT + self.file, 0o600)
        self.log = ROOT + f"/root/ports/{name}.log"
        with open(self.log, "wb") as log:
            words = inside(program.words("-c", self.file), space)
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        started.append(self)
        self.says("statistics at" if "http_listen" in config else "UDP bound to", 60)

    def text(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def says(self, words, seconds=30, times=1):
        def said():
            need(self.process.poll() is None or words in self.text(), f"{self.name} ended: {self.text()}")
            return self.text().count(words) >= times

        eventually(said, f"{self.name} says: {words}; it said: {self.text()[-600:]}", seconds)

    def stats(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats.json", timeout=20) as answer:
            return json.load(answer)

    def end(self, number=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


# -- what is carried ---------------------------------------------------------------------------------------------------


class Service(threading.Thread):
    """A TCP service. A client's first byte says what it wants: e(cho), d(ownload), u(pload and its hash), r(eset)."""

    def __init__(self, host="127.0.0.1", port=0):
        super().__init__(daemon=True)
        self.socket = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1000
        )
        self.port = self.socket.getsockname()[1]
        self.was_reset = threading.Event()
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            match client.recv(1):
                case b"e":
                    while data := client.recv(65536):
                        client.sendall(data)
                case b"d":
                    client.sendall(DATA)
                case b"u":
                    digest = hashlib.sha256()
                    while data := client.recv(65536):
                        digest.update(data)
                    client.sendall(digest.digest())
                case b"r":
                    reset(client)
        except ConnectionResetError:
            self.was_reset.set()
        except OSError:
            pass
        finally:
            client.close()


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def connect(port, host="127.0.0.1"):
    # one that is emulated may be slow, above all beside other work
    return socket.create_connection((host, port), timeout=600)


def download(port, host="127.0.0.1"):
    digest = hashlib.sha256()
    with connect(port, host) as client:
        client.sendall(b"d")
        while data := client.recv(65536):
            digest.update(data)
    need(digest.digest() == HASH, "what was downloaded differs")


def upload(port, host="127.0.0.1"):
    with connect(port, host) as client:
        client.sendall(b"u" + DATA)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(64):
            answer += data
    need(answer == HASH, "what was uploaded differs")


def echoes(port, host="127.0.0.1", seconds=10):
    """Whether a new connection carries a word there and back."""
    with contextlib.suppress(OSError), connect(port, host) as client:
        client.settimeout(seconds)
        client.sendall(b"eword")
        return client.recv(10) == b"word"
    return False


def at_once(count, work):
    errors = []

    def one():
        try:
            work()
        except Exception as error:  # whatever it is, the case has failed
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    need(not errors, f"{len(errors)} of {count}: {errors[:1]}")


class Pair:
    """A service, a server and a peer of one program, on this machine. Ports: 1000 UDP, 1001 TCP, 1002 and 1003 HTTP."""

    def __init__(self, program, host="127.0.0.1", server=None, peer=None):
        at, bind, to = host, program.bind, program.to
        if ":" in host:
            at, bind, to = f"[{host}]", f"[{host}]:1000", f"[{host}]:1000"
        self.service, self.host, self.program = Service(host), host, program
        self.server_config = {
            "udp_bind": bind, "connect": f"{at}:{self.service.port}", "http_listen": 1002, **(server or {}),
        }
        self.peer_config = {"listen": f"{at}:1001", "udp_connect": to, "http_listen": 1003, **(peer or {})}
        self.server = Daemon(program, "server", self.server_config)
        self.peer = Daemon(program, "peer", self.peer_config)
        eventually(lambda: echoes(1001, host), "the tunnel carries a word")

    def both_ways(self):
        download(1001, self.host)
        upload(1001, self.host)


# -- Windows, under wine -----------------------------------------------------------------------------------------------


@case
def windows_carries_20_megabytes_both_ways():
    Pair(windows()).both_ways()


@case
def windows_carries_four_downloads_at_once():
    Pair(windows())
    at_once(4, lambda: download(1001))


@case
def windows_carries_over_ipv6():
    Pair(windows(), "::1").both_ways()


@case
def windows_binds_both_families_in_one_socket():
    pair = Pair(windows(), peer={"udp_connect": "[::1]:1000", "listen": ":1001"})
    pair.both_ways()
    need(echoes(1001, "::1"), "the listener takes IPv6")


@case
def windows_pings():
    pair = Pair(windows())
    status, text = pair.program.run("ping", "-n", "3", "-i", "0.3", "-c", pair.peer.file)
    need(status == 0 and text.count("ms") >= 3, text)
    pair.server.end()
    status, text = pair.program.run("ping", "-n", "3", "-i", "0.3", "-c", pair.peer.file)
    need(status == 1 and "refused" in text.lower() or "nothing" in text.lower(), text)


@case
def windows_shows_statistics_and_the_page():
    pair = Pair(windows())
    download(1001)
    status, text = pair.program.run("stats", "-c", pair.peer.file)
    need(status == 0 and "healthy" in text and "peer" in text, text)
    with urllib.request.urlopen("http://127.0.0.1:1003/", timeout=20) as page:
        need(b"<html" in page.read().lower(), "the page")
    stats = pair.peer.stats(1003)
    need(stats["tcp"]["bytes_received"] >= len(DATA), stats["tcp"])
    sane_times(stats)


@case
def windows_passes_resets_on():
    pair = Pair(windows())
    with connect(1001) as client:
        client.sendall(b"r")
        try:
            need(client.recv(10) != b"", "an end of stream instead of a reset")
        except ConnectionResetError:
            pass
    client = connect(1001)
    client.sendall(b"ex")
    need(client.recv(1) == b"x", "an echo")
    reset(client)
    need(pair.service.was_reset.wait(20), "the service sees a reset")


@case
def windows_refuses_what_only_unix_has():
    program = windows()
    base = {"udp_bind": "127.0.0.1:1000", "connect": "127.0.0.1:9", "psk": KEY}
    for key, value, words in [
        ("user", "nobody", "kcptun service install"),
        ("log", "syslog", "the path of a file"),
        ("udp", {"reuseport": True}, "leave the key out"),
    ]:
        with open(ROOT + "/root/ports/wrong.json", "w") as file:
            json.dump({**base, key: value}, file)
        status, text = program.run("--check", "-c", "/root/ports/wrong.json")
        need(status == 2 and key in text and words in text, text)
    with open(ROOT + "/root/ports/right.json", "w") as file:
        json.dump(base, file)
    status, text = program.run("-d", "-c", "/root/ports/right.json")
    need(status == 1 and "kcptun service install" in text, text)


@case
def windows_init_writes_for_its_user_alone_and_speaks_of_windows():
    program, files = windows(), "/root/ports/my files"
    subprocess.run("ip address replace 192.0.2.9/32 dev lo".split(), check=True)
    words = ["192.0.2.9:443", "--connect", "127.0.0.1:22", "--listen", "127.0.0.1:2222", "--directory", files]
    status, text = program.run("init", *words)
    need(status == 0, text)
    for part in [
        "netsh advfirewall firewall add rule",
        "localport=443",
        f'kcptun service install -c "{files}',
        f'It is "/Z:{files}/peer.json" at USER@192.0.2.9.',
    ]:
        need(part in text, f"{part}: {text}")
    for name in ("server.json", "peer.json"):
        # to wine the group of a file is that of administrators
        mode = os.stat(f"{ROOT}{files}/{name}").st_mode & 0o777
        need(mode & 0o007 == 0, f"{name} has mode {mode:o}")
        status, text = program.run("--check", "-c", f"{files}/{name}")
        need(status == 0 and "everybody" not in text, text)
    os.chmod(f"{ROOT}{files}/peer.json", 0o644)
    status, text = program.run("--check", "-c", f"{files}/peer.json")
    need("everybody" in text and "icacls" in text, text)
    status, text = program.run("init", *words)
    need(status == 1 and "is there already" in text, text)


@case
def windows_reads_its_configuration_again():
    pair = Pair(windows())
    status, text = pair.program.run("reload", "-c", pair.peer.file)
    need(status == 0, text)
    pair.peer.says("the configuration was read again")
    status, text = pair.program.run("reload", "-c", "/root/ports/server.json")
    need(status == 0, text)
    pair.server.end()
    status, text = pair.program.run("reload", "-c", pair.server.file)
    need(status == 1 and "no kcptun runs" in text, text)


@case
def windows_says_farewell_on_ctrl_c():
    pair = Pair(windows())
    client = connect(1001)
    client.sendall(b"ex")
    need(client.recv(1) == b"x", "an echo")
    began = time.monotonic()
    pair.server.process.send_signal(signal.SIGINT)
    client.settimeout(20)
    try:
        need(client.recv(1) == b"", "an end")
    except ConnectionResetError:
        pass
    need(time.monotonic() - began < 5, "the end comes at once")
    need(pair.server.process.wait(20) == 0, f"exit status {pair.server.process.returncode}")
    need("stopping" in pair.server.text(), pair.server.text())


@case
def windows_keeps_a_second_process_from_its_pid_file():
    pair = Pair(windows(), server={"pidfile": "./server.pid"})
    status, text = pair.program.run("-c", pair.server.file)
    need(status == 1 and "is running already" in text, text)


@case
def windows_survives_a_server_that_is_killed():
    pair = Pair(windows())
    client = connect(1001)
    client.sendall(b"ex")
    need(client.recv(1) == b"x", "an echo")
    pair.server.end()
    time.sleep(3)
    pair.server = Daemon(pair.program, "server", pair.server_config)
    eventually(lambda: echoes(1001), "a new connection after the restart", 40)
    client.settimeout(60)
    try:
        client.sendall(b"y")
        need(client.recv(1) == b"", "a session that the server does not know goes on")
    except OSError:
        pass
    pair.both_ways()


@case
def windows_hears_again_after_half_a_minute_of_icmp():
    pair = Pair(windows())
    stop = threading.Event()

    def knock():
        while not stop.is_set():
            with contextlib.suppress(OSError), connect(1001) as client:
                client.settimeout(1)
                client.sendall(b"e" + b"x" * 5000)
                client.recv(1)

    pair.server.end()
    knockers = [threading.Thread(target=knock, daemon=True) for _ in range(2)]
    for each in knockers:
        each.start()
    time.sleep(30)
    stop.set()
    for each in knockers:
        each.join()
    pair.server = Daemon(pair.program, "server", pair.server_config)
    eventually(lambda: echoes(1001), "a new connection after the storm", 60)
    pair.both_ways()


@case
def windows_follows_a_change_of_its_address():
    program = windows()
    with open(HOSTS) as hosts:
        known = hosts.read()
    holder = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "a namespace")
        far = ["nsenter", "-t", str(holder.pid), "-n"]
        for line in [
            f"ip link add near type veth peer name far netns {holder.pid}",
            "ip address add 10.9.0.2/24 dev near",
            "ip link set near up",
        ]:
            subprocess.run(line.split(), check=True)
        for line in ["ip address add 10.9.0.1/24 dev far", "ip link set far up", "ip link set lo up"]:
            subprocess.run([*far, *line.split()], check=True)
        Daemon(windows(PREFIXES[1]), "server", {"udp_bind": ":1000", "connect": "127.0.0.1:7"}, holder.pid)
        with open(HOSTS, "a") as hosts:
            hosts.write("10.9.0.1 far.test\n")
        peer = Daemon(program, "peer", {"udp_connect": "far.test:1000", "listen": "127.0.0.1:1001", "http_listen": 1003})
        eventually(lambda: peer.stats(1003)["healthy"], "the peer is answered")
        with contextlib.suppress(OSError), connect(1001) as client:
            client.sendall(b"x")
        subprocess.run("ip address add 10.9.0.3/24 dev near".split(), check=True)
        subprocess.run("ip address del 10.9.0.2/24 dev near".split(), check=True)
        # the second address went with the first, whose network it is in
        subprocess.run("ip address add 10.9.0.3/24 dev near".split(), stderr=subprocess.DEVNULL)
        peer.says("is now reached from 10.9.0.3", 40)
        eventually(lambda: peer.stats(1003)["healthy"], "the peer is answered at its new address")
    finally:
        with open(HOSTS, "w") as hosts:
            hosts.write(known)
        holder.kill()
        holder.wait()
        subprocess.run("ip link del near".split(), stderr=subprocess.DEVNULL)


@case
def windows_carries_500_connections():
    # what wine needs for an event grows with the number of sockets
    pair, count, each = Pair(windows()), 500, 8 * 1024
    clients = [connect(1001) for _ in range(count)]
    data = [DATA[number * each : (number + 1) * each] for number in range(count)]
    number = iter(range(count))

    def moves():
        mine = next(number)
        client, digest, left = clients[mine], hashlib.sha256(), each
        client.settimeout(600)
        client.sendall(b"e" + data[mine])
        while left and (part := client.recv(left)):
            digest.update(part)
            left -= len(part)
        need(digest.digest() == hashlib.sha256(data[mine]).digest(), "what came back differs")

    at_once(count, moves)
    need(pair.peer.stats(1003)["sessions"]["states"]["connected"] >= count, f"{count} sessions")
    for client in clients:
        client.close()
    eventually(lambda: pair.peer.stats(1003)["sessions"]["states"]["connected"] < 10, "the sessions end", 300)
    pair.both_ways()


@case
def windows_answers_where_a_table_is_full():
    pair = Pair(windows())
    held = [connect(1003) for _ in range(40)]
    need(pair.peer.stats(1003)["healthy"], "statistics beside 40 idle connections")
    need(echoes(1001), "the tunnel beside them")
    for each in held:
        each.close()
    # connections wait for the address of the other end, and those that are too many are refused
    pair.peer.end()
    lone = Daemon(
        pair.program, "lone", {"listen": "127.0.0.1:1004", "udp_connect": "no-such-host.invalid:1000"}
    )
    waiting = [connect(1004) for _ in range(400)]
    lone.says("was refused: the other end's address is not known, and too many wait for it")
    for each in waiting:
        each.close()


@case
def windows_runs_as_a_service():
    program, service = windows(), Service()
    config = {"udp_bind": program.bind, "connect": f"127.0.0.1:{service.port}", "psk": KEY}
    file, log = "/root/ports/srv.json", ROOT + "/root/ports/srv.log"
    with contextlib.suppress(FileNotFoundError):
        os.remove(log)
    with open(ROOT + file, "w") as out:
        json.dump(config, out)
    def said(words, times=1):
        def holds():
            with contextlib.suppress(FileNotFoundError), open(log, errors="replace") as text:
                return text.read().count(words) >= times
            return False

        return holds

    try:
        program.run("service", "uninstall", "-c", file)
        for task, words in [("start", "no such service"), ("install", "is installed"), ("install", "installed already")]:
            status, text = program.run("service", task, "-c", file)
            need(words in text and status == (words != "is installed"), text)
        status, text = program.run("service", "start", "-c", file)
        need(status == 0, text)
        eventually(said("UDP bound to"), "the service's log", 60)
        peer = Daemon(program, "peer", {"listen": "127.0.0.1:1001", "udp_connect": program.to})
        eventually(lambda: echoes(1001), "the service carries a word")
        download(1001)
        status, text = program.run("reload", "-c", file)
        need(status == 0, text)
        eventually(said("the configuration was read again"), "kcptun reload reaches the service")
        subprocess.run(inside([*WINE, "sc", "control", "kcptun-srv", "paramchange"]), stdout=subprocess.DEVNULL)
        status, text = program.run("service", "stop", "-c", file)
        need(status == 0, text)
        eventually(said("stopping"), "the service stops with a farewell")
        peer.end()
    finally:
        status, text = program.run("service", "uninstall", "-c", file)
    need(status == 0, text)


# -- Linux on other processors, under qemu ------------------------------------------------------------------------------------------


def sane_times(stats):
    """What is measured in seconds is no more than the test has lasted."""
    need(0 < stats["uptime"] < 3600, f"uptime {stats['uptime']}")
    for path in stats["paths"]:
        for key, value in path.items():
            if key in ("rtt", "srtt", "base_rtt", "silence") and isinstance(value, (int, float)):
                need(0 <= value < 3600, f"{key} {value}")
    need(0 <= stats["loop"]["longest_turn"] < 60, f"longest turn {stats['loop']}")


def small_machine(machine):
    pair = Pair(qemu(machine))
    pair.both_ways()
    sane_times(pair.peer.stats(1003))
    sane_times(pair.server.stats(1002))
    spans = [float(span) for span in re.findall(r"after ([0-9.]+) s", pair.peer.text())]
    need(all(span < 3600 for span in spans), f"sessions of {spans} s")
    pair.peer.process.send_signal(signal.SIGHUP)
    pair.peer.says("the configuration was read again")
    need(echoes(1001), "the tunnel after SIGHUP")
    status, text = pair.program.run("ping", "-n", "3", "-i", "0.3", "-c", pair.peer.file)
    need(status == 0 and text.count("ms") >= 3, text)
    pair.server.process.send_signal(signal.SIGTERM)
    need(pair.server.process.wait(20) == 0, "the end after SIGTERM")


@case
def mipsel_carries_20_megabytes_and_knows_the_time():
    small_machine("mipsel")


@case
def arm_carries_20_megabytes_and_knows_the_time():
    small_machine("arm")


# qemu hands over the sizes of segments (UDP_SEGMENT, UDP_GRO) in the wrong order of bytes where the machine is big-endian, so that
# many datagrams are lost. It is slow, and what arrives is right.
@case
def mips_carries_20_megabytes_and_knows_the_time():
    small_machine("mips")


@case
def aarch64_carries_20_megabytes_and_knows_the_time():
    small_machine("aarch64")


@case
def i686_passes_the_unit_tests():
    words = "cd /port && cargo test --lib -Zbuild-std --target i686-unknown-linux-gnu"
    done = subprocess.run(build_words(words, panic="unwind"), capture_output=True)
    need(done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-2000:])


# -- building, and running the cases -----------------------------------------------------------------------------------


def build_words(command, panic="abort"):
    variables = ["RUSTC_BOOTSTRAP=1", f"CARGO_TARGET_DIR={TARGETS}", "CARGO_BUILD_JOBS=2"]
    if panic == "abort":
        variables.append("CARGO_PROFILE_DEV_PANIC=abort")
    return inside([*variables, "bash", "-c", command])


def build():
    std = "-Zbuild-std=std,panic_abort"
    static = {"mipsel": "-C relocation-model=static", "arm": ""}
    commands = [f"cargo build -q --bin kcptun {std} --target {WINDOWS}"]
    for machine, target in MUSL.items():
        options = f"-C link-self-contained=no {static[machine]}"
        commands.append(f"cargo-zigbuild rustc -q --bin kcptun {std} --target {target} -- {options}")
    commands.append(f"examples/openwrt/build.sh {' '.join(SCRIPTED)}")
    for command in commands:
        print("build:", command, flush=True)
        subprocess.run(build_words(f"cd /port && {command}"), check=True)


def run(function):
    began = time.monotonic()
    name = function.__name__
    try:
        with wine_kept() if name.startswith("windows") else contextlib.nullcontext():
            try:
                function()
            finally:
                for daemon in started:
                    with contextlib.suppress(Exception):
                        daemon.end()
                started.clear()
        result = None
    except Exception as error:
        result = error if isinstance(error, Failure) else traceback.format_exc()
    print(f"{'FAILED' if result else 'ok':7}{time.monotonic() - began:6.1f} s  {name}", flush=True)
    if result:
        print("       ", result, flush=True)
    return not result


def main():
    global ROOT, DATA, HASH, HOSTS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chroot")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_intermixed_args()
    cases = [each for each in CASES if not asked.names or each.__name__.startswith(tuple(asked.names))]
    if asked.list:
        print("\n".join(each.__name__ for each in cases))
        return 0
    ROOT = os.path.realpath(asked.chroot)
    if not asked.inside:
        if not asked.no_build:
            build()
        words = [sys.executable, os.path.abspath(__file__), "--inside", ROOT, *asked.names]
        return subprocess.run(["unshare", "--net", *words]).returncode
    subprocess.run("ip link set lo up".split(), check=True)
    HOSTS = ROOT + "/etc/hosts"
    shutil.rmtree(ROOT + "/root/ports", ignore_errors=True)
    os.makedirs(ROOT + "/root/ports")
    DATA = os.urandom(MEGABYTES * 1024 * 1024)
    HASH = hashlib.sha256(DATA).digest()
    for prefix in PREFIXES:
        end_wine(prefix)
    failed = [each.__name__ for each in cases if not run(each)]
    print(f"{len(failed)} of {len(cases)} have failed")
    return min(len(failed), 100)


if __name__ == "__main__":
    sys.exit(main())
