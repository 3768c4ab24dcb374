"""The embedded PostgreSQL, as its users meet it: started, shared, killed, recovered."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from slf_store.db import embedded, postmaster
from slf_store.db.embedded import EmbeddedServer
from slf_store.db.osuser import server_user
from slf_store.db.pgbinaries import find_binaries
from slf_store.errors import DatabaseError

pytestmark = pytest.mark.integration

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")

CLIENT = """
import encodings.idna, os, pwd, signal, sys, time
from pathlib import Path
import fasteners, psutil, psycopg, psycopg.types.json
from slf_store.db.embedded import EmbeddedServer
home, user, tethered, stay = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, it would be ignored
if user:  # after the imports: the interpreter itself may lie in root's own folder
    entry = pwd.getpwnam(user)
    os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
server = EmbeddedServer(Path(home))
print(server.start(tethered=tethered == "True"), flush=True)
print(server.status().os_user, flush=True)
if stay == "True":
    time.sleep(600)
"""


def client(home: Path, *, user: str = "", tethered: bool = False, stay: bool = False) -> subprocess.Popen[str]:
    """Another process that starts or attaches, and says the URL and the server's OS user."""
    command = [sys.executable, "-c", CLIENT, str(home), user, str(tethered), str(stay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.split()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=5)


def pid_of(server: EmbeddedServer) -> int:
    pid = server.status().pid
    assert pid is not None
    return pid


def kill_server(server: EmbeddedServer) -> None:
    process = psutil.Process(pid_of(server))
    process.kill()
    process.wait(10)


def processes_of(data_dir: Path) -> list[psutil.Process]:
    mark = postmaster.mark(data_dir)
    return [p for p in psutil.process_iter(["cmdline"]) if mark in " ".join(p.info["cmdline"] or [])]


def wait_until(true: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def new_home(open_folder: Path) -> Iterator[Callable[[str], Path]]:
    """Makes homes; at the end stops their servers, and nothing of them may be left running."""
    base = Path(tempfile.mkdtemp(dir=open_folder))
    base.chmod(0o755)
    homes: list[Path] = []

    def make(name: str = "store") -> Path:
        homes.append(base / name)
        return homes[-1]

    yield make
    for home in homes:
        data_dir = EmbeddedServer(home).status().data_dir
        EmbeddedServer(home).stop()
        assert processes_of(data_dir) == []
        if data_dir.parent != home:
            shutil.rmtree(data_dir.parent)
    shutil.rmtree(base)


@pytest.fixture
def home(new_home: Callable[[str], Path]) -> Path:
    return new_home("store")


@pytest.fixture
def table(home: Path) -> EmbeddedServer:
    """A running server with one committed row."""
    server = EmbeddedServer(home)
    with connect(server.start()) as db:
        db.execute("CREATE TABLE kept AS SELECT 42 AS n")
    return server


def has_the_row(url: str) -> bool:
    with connect(url) as db:
        return db.execute("SELECT n FROM kept").fetchall() == [(42,)]


def test_start_attach_stop(home: Path) -> None:
    server = EmbeddedServer(home)
    assert not server.status().running
    url = server.start()
    assert url == server.start() == server.url() == said(client(home))[0]
    with connect(url) as db:
        made = "SELECT pg_encoding_to_char(encoding), datlocale FROM pg_database WHERE datname = 'slf'"
        assert db.execute(made).fetchone() == ("UTF8", "C.UTF-8")
        runs = "SELECT current_setting('data_checksums'), current_setting('listen_addresses')"
        assert db.execute(runs).fetchone() == ("on", "127.0.0.1")
        assert db.execute("SELECT '[1,2]'::vector <-> '[1,3]'").fetchone() == (1.0,)
    status = server.status()
    assert status.running
    assert (status.os_user, str(status.version)[:2]) == (server_user(status.data_dir).name, "18")
    assert (home / "pg.password").stat().st_mode & 0o777 == 0o600
    assert server.stop()
    assert not server.stop()
    assert not server.status().running
    with pytest.raises(DatabaseError, match="not running"):
        server.url()


def test_a_wrong_password_is_refused(home: Path) -> None:
    url = EmbeddedServer(home).start()
    password = (home / "pg.password").read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(url.replace(password, "guess"))


def test_a_path_with_spaces_and_quotes(new_home: Callable[[str], Path]) -> None:
    server = EmbeddedServer(new_home('it\'s a "store" $HOME') / "deeper")
    with connect(server.start()) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert server.stop()


def test_two_stores_side_by_side(new_home: Callable[[str], Path]) -> None:
    one, two = EmbeddedServer(new_home("one")), EmbeddedServer(new_home("two"))
    first, second = one.start(), two.start()
    assert first.rpartition("@")[2] != second.rpartition("@")[2]
    with connect(first) as db:
        db.execute("CREATE TABLE mine ()")
    with connect(second) as db:
        assert db.execute("SELECT to_regclass('mine')").fetchone() == (None,)
    one.stop()
    assert two.status().running


def test_a_port_just_taken_by_another(
    table: EmbeddedServer, new_home: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = table.status().port
    ports = iter([taken, embedded._free_port()])
    monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
    assert f":{taken}/" not in EmbeddedServer(new_home("late")).start()


def test_processes_that_start_at_once_share_one_server(home: Path) -> None:
    clients = [client(home) for _ in range(3)]
    assert len({said(process)[0] for process in clients}) == 1


def test_killed_server_comes_back_with_its_data(table: EmbeddedServer) -> None:
    db = connect(table.url())  # leave it a child that is busy when its parent dies
    db.pgconn.send_query(b"DO $$ BEGIN FOR i IN 1..1000000000 LOOP END LOOP; END $$")
    time.sleep(0.2)
    kill_server(table)
    began = time.monotonic()
    url = table.start()
    assert time.monotonic() - began < 15
    assert has_the_row(url)
    db.close()


def test_stop_after_a_kill_leaves_no_child(table: EmbeddedServer) -> None:
    kill_server(table)
    assert not table.stop()
    assert processes_of(table.status().data_dir) == []
    assert has_the_row(table.start())


def test_reused_process_id_is_not_taken_for_the_server(table: EmbeddedServer) -> None:
    status = table.status()
    assert status.pid is not None
    kill_server(table)
    user = server_user(status.data_dir)
    other = subprocess.Popen(["sleep", "60"], user=user.user, group=user.group, extra_groups=user.extra_groups, cwd="/")
    try:
        pidfile = status.data_dir / "postmaster.pid"
        pidfile.write_text(pidfile.read_text().replace(str(status.pid), str(other.pid), 1))
        assert not table.status().running
        assert has_the_row(table.start())
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_killed_client_leaves_the_server(home: Path) -> None:
    process = client(home, stay=True)
    url = first_line(process)
    kill(process)
    assert EmbeddedServer(home).start() == url
    with connect(url) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_server_outlives_the_client_that_ends_and_its_interrupt(home: Path) -> None:
    process = client(home, stay=True)
    first_line(process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert EmbeddedServer(home).status().running


def test_tethered_server_ends_with_its_killed_client(home: Path) -> None:
    process = client(home, tethered=True, stay=True)
    first_line(process)
    server = EmbeddedServer(home)
    pid = pid_of(server)
    kill(process)
    assert server.start()  # waits for the old one to end, then starts another
    assert pid_of(server) != pid
    process = client(home, tethered=True, stay=True)  # attaches: the server is ours
    first_line(process)
    kill(process)
    assert server.status().running
    assert not wait_until(lambda: not server.status().running, 0.5)


def test_tether_ends_all_by_itself(home: Path) -> None:
    said(client(home, tethered=True))
    data_dir = EmbeddedServer(home).status().data_dir
    assert wait_until(lambda: processes_of(data_dir) == [])
    assert "shut down" in (home / "postgres.log").read_text().splitlines()[-1]


def test_tether_holds_the_process_not_the_thread_that_started(home: Path) -> None:
    server = EmbeddedServer(home)
    thread = threading.Thread(target=server.start, kwargs={"tethered": True})
    thread.start()
    thread.join()
    assert not wait_until(lambda: not server.status().running, 0.5)


def test_watcher_of_other_systems(home: Path) -> None:
    server = EmbeddedServer(home)
    server.start()
    status = server.status()
    assert status.pid is not None
    watch = f"""
import sys
from slf_store.db.postmaster import watch
watch({status.pid}, ["cluster_name={postmaster.mark(status.data_dir)}"])
"""
    subprocess.run([sys.executable, "-c", watch], check=True)
    assert wait_until(lambda: not server.status().running)


@as_root
def test_as_root_behind_a_closed_folder(new_home: Callable[[str], Path]) -> None:
    closed = new_home("closed")
    closed.mkdir(mode=0o700)
    home = new_home("closed/store")
    server = EmbeddedServer(home)
    with connect(server.start()) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
    status = server.status()
    assert closed.stat().st_mode & 0o777 == 0o700
    assert (home / "pg").readlink() == status.data_dir
    assert status.data_dir.is_relative_to("/var")
    assert psutil.Process(status.pid).username() == status.os_user != "root"


@as_root
def test_programs_behind_a_closed_folder_are_copied(new_home: Callable[[str], Path]) -> None:
    package = find_binaries().parent.parent
    closed = new_home("closed-programs")
    closed.mkdir(mode=0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.name)
    programs = closed / package.name / "pginstall" / "bin"
    server = EmbeddedServer(new_home("open"), programs)
    for _ in range(2):
        server.start()
        program = Path(psutil.Process(server.status().pid).exe())
        assert server.stop()
    assert not program.is_relative_to(closed)
    shutil.rmtree(next(p for p in program.parents if p.name.startswith("postgresql-")))


@as_root
def test_as_an_ordinary_user(new_home: Callable[[str], Path]) -> None:
    folder = new_home("nobodys")
    folder.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    url, os_user = said(client(folder, user="nobody"))
    assert os_user == "nobody"
    assert (folder / "pg").stat().st_uid == nobody.pw_uid
    assert EmbeddedServer(folder).start() == url  # root can use it too, and changes no owner
    other = client(folder, user="daemon")
    _, err = other.communicate(timeout=60)
    assert "DatabaseError" in err
    assert "another OS user" in err


def test_home_that_cannot_be_made(new_home: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="file"):
        EmbeddedServer(tmp_path / "file" / "store").start()


def test_missing_programs(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no program initdb and no postgres"):
        EmbeddedServer(tmp_path / "store", tmp_path).start()


def test_data_of_another_major_version(table: EmbeddedServer) -> None:
    data_dir = table.status().data_dir
    table.stop()
    (data_dir / "PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseError, match=r"is of PostgreSQL 17, the programs are of 18\."):
        table.start()


def test_broken_settings_show_the_log(table: EmbeddedServer) -> None:
    data_dir = table.status().data_dir
    table.stop()
    (data_dir / "postgresql.auto.conf").write_text("shared_buffers = 'much'\n")
    with pytest.raises(DatabaseError, match="shared_buffers"):
        table.start()
