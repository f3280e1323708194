#!/bin/sh
# Installs the Debian package into a clean Debian, uses it there, upgrades it, removes it and purges it.
#
#   sh tests/deploy/deb.sh dist/crewd_*.deb BASE
#
# BASE is a folder with the release it is for; it is made (30 s, 300 MB, needs a mirror) where it is not there, and never
# changed: what happens lies over it in memory. Needs root, debootstrap, unshare and overlay mounts. No network is needed
# within, and none is there.
set -eu

[ $# -eq 2 ] && [ -f "$1" ] || { echo "usage: sh tests/deploy/deb.sh PACKAGE.deb BASE" >&2; exit 2; }
package=$(realpath "$1")
base=$2
if [ ! -x "$base/usr/bin/dpkg" ]; then
    debootstrap --variant=minbase --include=python3,systemd,dbus bookworm "$base" >&2
fi
base=$(realpath "$base")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The same package as a later version, to upgrade to.
dpkg-deb --raw-extract "$package" "$work/later"
sed -i 's/^Version: .*/&+later/' "$work/later/DEBIAN/control"
dpkg-deb --root-owner-group -Zxz -z1 --build "$work/later" "$work/later.deb" >/dev/null
rm -rf "$work/later"
cp "$package" "$work/first.deb"

cat >"$work/within.sh" <<'WITHIN'
set -eu
say() { echo "== $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

say install
dpkg --install /given/first.deb
crewd --version
[ -n "$(find /opt/crewd/lib -name '*.pyc' -print -quit)" ] || fail "nothing was compiled"
[ "$(readlink -f /usr/bin/crewd)" = /opt/crewd/bin/crewd ] || fail "/usr/bin/crewd leads elsewhere"
dpkg --verify crewd
du -sm /opt/crewd

say units
systemd-analyze verify --man=no /usr/lib/systemd/system/crewd@.service 2>&1 | grep -v DelegateSubgroup | tee /verified
mkdir -p /run/user/0
XDG_RUNTIME_DIR=/run/user/0 systemd-analyze verify --user --man=no /usr/lib/systemd/user/crewd.service 2>&1 | grep -v DelegateSubgroup | tee -a /verified
[ ! -s /verified ] || fail "systemd has something to say of the units"
[ -z "$(find /etc/systemd -name 'crewd*')" ] || fail "something was enabled"

say use, as somebody who may not write to /opt
useradd --create-home ann
cat >/home/ann/use.sh <<'ANN'
set -eu
cd
crewd serve --port 9464 >serve.log 2>&1 &
daemon=$!
for _ in $(seq 100); do crewd status >/dev/null 2>&1 && [ -S .local/state/crewd/crewd.sock ] && break; sleep 0.1; done
printf '[[tasks]]\nid = "hello"\ncommand = ["sh", "-c", "echo hello from the package"]\n' >run.toml
run=$(crewd submit -q run.toml)
crewd wait "$run" --timeout 30s
crewd logs "$run" hello | grep "hello from the package"
/opt/crewd/bin/python - <<'PY'
from urllib.request import urlopen
for path in ("/metrics", "/readyz", "/", "/runbooks"):
    print(path, urlopen(f"http://127.0.0.1:9464{path}").status)
assert b'id="crewdworkerdead"' in urlopen("http://127.0.0.1:9464/runbooks").read()
PY
crewd doctor | head -3
crewd runbook CrewdWorkerDead | head -1 | grep CrewdWorkerDead
crewd assets dump mine --url http://crewd.example:9464 >/dev/null
ls mine
crewd man why | head -1
PYTHONPATH=/nowhere PYTHONHOME=/nowhere crewd --version
printf '[[tasks]]\nid = "long"\ncommand = ["sh", "-c", "sleep 20; echo outlived the upgrade"]\n' >long.toml
crewd submit -q long.toml >long.id
for _ in $(seq 100); do crewd show "$(cat long.id)" | grep -q running && break; sleep 0.1; done
crewd handover
wait "$daemon" || true
ANN
cat >/home/ann/later.sh <<'ANN'
set -eu
cd
crewd serve --port 9464 >later.log 2>&1 &
daemon=$!
for _ in $(seq 100); do [ -S .local/state/crewd/crewd.sock ] && break; sleep 0.1; done
crewd wait "$(cat long.id)" --timeout 60s
crewd logs "$(cat long.id)" long | grep "outlived the upgrade"
crewd history runs --since 2020-01-01T00:00:00Z
kill "$daemon"
wait "$daemon" || true
ANN
su ann -c 'sh /home/ann/use.sh'
[ -f /home/ann/.local/state/crewd/ledger.sqlite3 ] || fail "no ledger"
[ -d /usr/share/crewd/systemd ] || fail "/usr/share/crewd has no units"
for each in bash-completion/completions/crewd zsh/vendor-completions/_crewd fish/vendor_completions.d/crewd.fish; do
    grep -q _CREWD_COMPLETE "/usr/share/$each" || fail "$each completes nothing"
done

say upgrade
dpkg --install /given/later.deb
dpkg-query -W crewd | grep -q '+later$' || fail "not upgraded"
su ann -c 'sh /home/ann/later.sh'

say remove
mkdir -p /var/lib/crewd/ann /etc/crewd
dpkg --remove crewd
[ ! -e /opt/crewd ] || fail "something is left of /opt/crewd: $(find /opt/crewd | head -3)"
[ ! -e /usr/bin/crewd ] || fail "/usr/bin/crewd is left"

say purge
dpkg --purge crewd
[ -f /home/ann/.local/state/crewd/ledger.sqlite3 ] || fail "the ledger of ann is gone"
[ -d /var/lib/crewd/ann ] || fail "the state of a server is gone"
find / -xdev -path /proc -prune -o -path /given -prune -o -path /home -prune -o -type f -newer /given/first.deb -print |
    grep -v -e '^/var/\(lib/dpkg\|log\|cache\|mail\|spool\)/' -e '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-\?$' -e /verified ||
    true
say everything held
WITHIN

# Mounts, processes and network of their own, which end with it.
export base work
exec_within='
    mkdir "$work/over" "$work/root"
    mount -t tmpfs none "$work/over"
    mkdir "$work/over/upper" "$work/over/work"
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/over/upper,workdir=$work/over/work" "$work/root"
    mkdir -p "$work/root/given"
    mount --bind "$work" "$work/root/given"
    mount -t proc proc "$work/root/proc"
    mount -t devtmpfs dev "$work/root/dev" 2>/dev/null || mount --rbind /dev "$work/root/dev"
    ip link set lo up 2>/dev/null || true
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C.UTF-8 chroot "$work/root" sh /given/within.sh
'
unshare --mount --pid --fork --net sh -euc "$exec_within"
