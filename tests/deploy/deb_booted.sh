#!/bin/sh
# Installs the Debian package into a clean Debian that is booted, and has its systemd run crewd for an account: a worker
# lives through an upgrade, an upgrade alone disturbs nobody, and removing stops the service and keeps its state.
#
#   sh tests/deploy/deb_booted.sh dist/crewd_*.deb BASE
#
# BASE is the folder that tests/deploy/deb.sh makes; it is not changed. Needs root, systemd-nspawn and overlay mounts.
set -eu

[ $# -eq 2 ] && [ -f "$1" ] && [ -x "$2/usr/bin/dpkg" ] || {
    echo "usage: sh tests/deploy/deb_booted.sh PACKAGE.deb BASE; deb.sh makes BASE" >&2
    exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$1" "$work/first.deb"
dpkg-deb --raw-extract "$1" "$work/later"
sed -i 's/^Version: .*/&+later/' "$work/later/DEBIAN/control"
dpkg-deb --root-owner-group -Zxz -z1 --build "$work/later" "$work/later.deb" >/dev/null
rm -rf "$work/later"

cat >"$work/probe" <<'PROBE'
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
fail() { echo "FAILED: $*"; exit 1; }
is() { found=$(systemctl show -P "$1" crewd@ann); [ "$found" = "$2" ] || fail "$1 is $found, not $2"; }
ann() { su ann -s /bin/sh -c "export CREWD_STATE_DIR=/var/lib/crewd/ann; cd; $1"; }

echo "== nothing was started or enabled"
is ActiveState inactive
[ "$(systemctl is-enabled crewd@ann)" = disabled ] || fail "it is enabled"
echo "== started when asked"
systemctl enable crewd@ann || fail "not enabled"
systemctl start crewd@ann || fail "no start"
systemctl show -p StatusText crewd@ann
[ ! -e /etc/crewd ] || [ "$(stat -c %U /etc/crewd)" = root ] || fail "settings that count for everybody belong to ann"
ann 'printf "[[tasks]]\nid = \"long\"\ncommand = [\"sh\", \"-c\", \"sleep 30; echo outlived\"]\n" >long.toml'
ann 'crewd submit -q long.toml >id' || fail "not submitted"
for _ in 1 2 3 4 5 6 7 8 9 10; do ann 'crewd show $(cat id)' | grep -q '^running' && break; sleep 1; done
echo "== handover, upgrade, start: the worker lives through it"
ann 'crewd handover' || fail "no handover"
for _ in 1 2 3 4 5 6 7 8 9 10; do [ "$(systemctl show -P ActiveState crewd@ann)" = inactive ] && break; sleep 1; done
is ActiveState inactive
dpkg --install /given/later.deb || fail "no upgrade"
is ActiveState inactive
systemctl start crewd@ann || fail "no start of the later one"
ann 'crewd wait $(cat id) --timeout 90s' || fail "the run did not end well"
ann 'crewd logs $(cat id) long' | grep -q outlived || fail "what it wrote is lost"
echo "== an upgrade alone disturbs nobody"
pid=$(systemctl show -P MainPID crewd@ann)
dpkg --install /given/first.deb || fail "no change of version"
is MainPID "$pid"
echo "== removing stops it, and keeps its state"
dpkg --remove crewd || fail "not removed"
is ActiveState inactive
[ ! -e /opt/crewd ] || fail "something is left of /opt/crewd"
[ -f /var/lib/crewd/ann/ledger.sqlite3 ] || fail "the ledger is gone"
[ -n "$(find /etc/systemd/system -name 'crewd@ann.service')" ] || fail "what was enabled is forgotten before the purge"
dpkg --purge crewd
[ -z "$(find /etc/systemd/system -name 'crewd@ann.service')" ] || fail "what was enabled leads nowhere"
[ -f /var/lib/crewd/ann/ledger.sqlite3 ] || fail "the ledger is gone"
echo "== everything held"
PROBE

export work base="$2"
unshare --mount --propagation private sh -euc '
    mkdir "$work/over" "$work/root"
    mount -t tmpfs none "$work/over"
    mkdir "$work/over/upper" "$work/over/work"
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/over/upper,workdir=$work/over/work" "$work/root"
    root=$work/root units=$work/root/etc/systemd/system
    mkdir "$root/given"
    cp "$work/first.deb" "$work/later.deb" "$work/probe" "$root/given"
    chroot "$root" useradd --create-home ann
    chroot "$root" dpkg --install /given/first.deb
    printf "[Unit]\nRequires=basic.target\nWants=dbus.service probe.service\nAfter=basic.target\nAllowIsolate=yes\n" \
        >"$units/probe.target"
    printf "[Unit]\nAfter=dbus.service\n[Service]\nType=oneshot\nStandardOutput=file:/given/log\nStandardError=inherit\n" \
        >"$units/probe.service"
    printf "ExecStart=/bin/sh /given/probe\nExecStopPost=/usr/bin/systemctl --no-block exit 0\n" >>"$units/probe.service"
    timeout 240 systemd-nspawn -q --register=no --keep-unit --private-network --machine="crewd$$" \
        -D "$root" -b systemd.unit=probe.target >"$work/boot.log" 2>&1 || tail -20 "$work/boot.log"
    cat "$root/given/log"
    tail -1 "$root/given/log" | grep -q "everything held"
'
