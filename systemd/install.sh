#!/bin/sh
# Installs, upgrades and rolls back the node from a bundle, without internet. docs/install.md explains every step.
#
#   install.sh install      (default) install the version beside this script; upgrades what is there
#   ainode-setup apply      enable the units that /etc/ainode/node.toml asks for, and restart what runs
#   ainode-setup rollback   back to the version before the last upgrade
#   ainode-setup versions   which versions are installed
#   ainode-setup remove     remove the program; data, configuration and backups stay
#
# AINODE_ROOT=DIR   install below DIR instead of /, without root and without touching systemd
# PYTHON=python3.11 which Python (3.11 or later) the environment is made of
set -eu

root=${AINODE_ROOT:-}
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
opt=$root/opt/ainode
etc=$root/etc/ainode
units=$root/usr/lib/systemd/system
lock=$root/run/ainode/change.lock

say() { echo "ainode-setup: $*"; }
fail() { echo "ainode-setup: $*" >&2; exit 1; }
on_system() { [ -z "$root" ]; }
with_systemd() { on_system && [ -d /run/systemd/system ]; }
# The program never runs as root: what it writes belongs to its own user.
ainode_of() {
  program=$1/bin/ainode; shift
  if on_system; then
    (cd /var/lib/ainode && setpriv --reuid=ainode --regid=ainode --init-groups \
      env HOME=/var/lib/ainode PYTHONSAFEPATH=1 AINODE_CONFIG="$etc/node.toml" "$program" "$@")
  else
    PYTHONSAFEPATH=1 AINODE_CONFIG="$etc/node.toml" "$program" "$@"
  fi
}

find_python() {
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or later is missing: install python3 (Debian 12) or python3.11 (RHEL 9), or name one with PYTHON="
}

install_program() { # $1: folder of the version
  python=$(find_python)
  rm -rf "$1"
  mkdir -p "$1"
  # Without pip: Debian keeps it in a package of its own. The bundle brings one.
  "$python" -m venv --without-pip "$1"
  pip=$(ls "$here"/wheels/pip-*.whl)
  "$1/bin/python" "$pip/pip" --disable-pip-version-check --no-cache-dir install --quiet --no-index \
    --find-links "$here/wheels" --no-deps --require-hashes --requirement "$here/requirements.lock"
  mkdir -p "$1/share"
  for each in VERSION NOTICE LICENSE SECURITY.md sbom.cdx.json doc config systemd; do
    [ ! -e "$here/$each" ] || cp -R "$here/$each" "$1/share/"
  done
  cp "$here/install.sh" "$1/share/setup.sh"
  (cd "$1" && ./bin/python -P -c 'from node.archive.tables import REVISION; print(REVISION)' > share/schema-revision)
  chmod -R go+rX,go-w "$1"
  touch "$1/.complete"
}

install_units() { # $1: folder of the version
  from=$1/share/systemd
  mkdir -p "$units/ainode-.service.d" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d"
  rm -f "$units"/ainode.service "$units"/ainode-*.service "$units"/ainode-*.socket "$units"/ainode.target
  cp "$from"/*.service "$from"/*.socket "$from"/*.target "$units/"
  cp "$from"/ainode-.service.d/*.conf "$units/ainode-.service.d/"
  cp "$from/ainode.sysusers" "$root/usr/lib/sysusers.d/ainode.conf"
  cp "$from/ainode.tmpfiles" "$root/usr/lib/tmpfiles.d/ainode.conf"
  mkdir -p "$root/usr/bin" "$root/usr/sbin"
  printf '%s\n' '#!/bin/sh' "# The node's command line, as the node's user and with the node's configuration." \
    "export PYTHONSAFEPATH=1 AINODE_CONFIG=\"\${AINODE_CONFIG:-$etc/node.toml}\"" \
    "if [ \"\$(id -u)\" = 0 ] && [ -z \"$root\" ]; then" \
    "  export HOME=/var/lib/ainode" \
    "  exec setpriv --reuid=ainode --regid=ainode --init-groups $opt/current/bin/ainode \"\$@\"" \
    "fi" "exec $opt/current/bin/ainode \"\$@\"" > "$root/usr/bin/ainode"
  printf '%s\n' '#!/bin/sh' "exec $opt/current/share/setup.sh \"\$@\"" > "$root/usr/sbin/ainode-setup"
  chmod 0755 "$root/usr/bin/ainode" "$root/usr/sbin/ainode-setup"
  if on_system; then
    systemd-sysusers /usr/lib/sysusers.d/ainode.conf
    systemd-tmpfiles --create /usr/lib/tmpfiles.d/ainode.conf
  else
    mkdir -p "$root/var/lib/ainode" "$root/var/backups/ainode" "$root/run/ainode"
    : >> "$lock"
  fi
}

install_configuration() { # $1: folder of the version. A site's own files are never replaced.
  mkdir -p "$etc"
  for file in node.toml routing.toml; do
    [ -e "$etc/$file" ] || {
      cp "$1/share/config/$file" "$etc/$file"
      chmod 0640 "$etc/$file"
      ! on_system || chgrp ainode "$etc/$file"
      sed -i "s#^data_dir = \"~/.local/share/ainode\"#data_dir = \"$root/var/lib/ainode\"#" "$etc/$file"
    }
  done
}

# Puts a link in place of another in one step: no moment without a current version.
point() { ln -sfn "$2" "$opt/.$1.new"; mv -T "$opt/.$1.new" "$opt/$1"; }
version_of() { readlink "$opt/$1" 2>/dev/null || true; }
running() { with_systemd && systemctl --quiet is-active ainode.target; }

# While the lock is held a receiver that a caller wakes through its socket waits; nobody is refused.
hold() { exec 9>"$lock"; flock 9; }
let_go() { exec 9>&-; }
# The services alone: their sockets stay open. A caller may wake the receiver again at once; it then waits for the lock.
services() { systemctl list-units --all --plain --no-legend 'ainode-*.service' | cut -d' ' -f1 | grep -vx ainode-prepare.service; }
stop_services() {
  for _ in 1 2 3 4 5; do
    services | xargs -r systemctl stop 2>/dev/null || true
    services | xargs -r systemctl show --property=ActiveState --value | grep -qxE 'active|deactivating|reloading' || return 0
    sleep 0.3
  done
  return 1
}

# Nothing was changed yet: go on with the version there is.
stay() {
  let_go
  [ "$was_running" = no ] || systemctl start ainode.target
  fail "$1; $(version_of current) goes on"
}

change() { # $1: version to go to, $2: "" or the revision that the database must go back to first
  was_running=no
  ! running || was_running=yes
  hold
  if [ $was_running = yes ]; then
    stop_services || stay "the services do not stop"
  fi
  if [ -n "$2" ]; then ainode_of "$opt/current" db downgrade --to "$2" || stay "the database cannot go back"; fi
  old=$(version_of current)
  point current "$1"
  [ -z "$old" ] || [ "$old" = "$1" ] || point previous "$old"
  install_units "$opt/$1"
  ! with_systemd || systemctl daemon-reload
  # Here and not by ainode-prepare alone: a receiver that waits for the lock must find the schema it needs.
  if [ -n "$old" ]; then ainode_of "$opt/$1" db upgrade >/dev/null; fi
  let_go
  if [ $was_running = yes ]; then systemctl start ainode.target; fi
}

do_install() {
  on_system && [ "$(id -u)" != 0 ] && fail "run as root, or name a folder with AINODE_ROOT"
  [ -f "$here/SHA256SUMS" ] || fail "this is no bundle: $here/SHA256SUMS is missing (make one with: make bundle)"
  (cd "$here" && sha256sum --quiet --check SHA256SUMS) || fail "the bundle is damaged; copy it again"
  version=$(cat "$here/VERSION")
  old=$(version_of current)
  if [ -f "$opt/$version/.complete" ]; then
    say "$version is installed already"
  else
    say "installing $version below $opt"
    install_program "$opt/$version"
  fi
  [ -n "$old" ] || { mkdir -p "$root/run/ainode"; install_units "$opt/$version"; }
  install_configuration "$opt/$version"
  ainode_of "$opt/$version" check-config "$etc/node.toml" >/dev/null
  if [ -n "$old" ] && [ "$old" != "$version" ]; then
    copy=$root/var/backups/ainode/before-$version-$(date -u +%Y%m%dT%H%M%SZ)
    say "upgrading $old to $version; a copy of database and configuration goes to $copy"
    if [ -e "$root/var/lib/ainode/identity.json" ]; then ainode_of "$opt/$old" db backup "$copy"; fi
  fi
  if [ "$old" = "$version" ]; then
    # A repair at most: what runs goes on.
    install_units "$opt/$version"
    ! with_systemd || systemctl daemon-reload
    say "$version is current"
    return
  fi
  change "$version" ""
  if [ -z "$old" ]; then
    do_apply
    say "installed. Edit $etc/node.toml and $etc/routing.toml, then: ainode-setup apply && systemctl enable --now ainode.target"
  else
    say "$version is current"
  fi
}

do_rollback() {
  old=$(version_of current)
  back=$(version_of previous)
  if [ -z "$back" ] || [ ! -d "$opt/$back" ]; then fail "there is no earlier version"; fi
  revision=$(cat "$opt/$back/share/schema-revision")
  say "going back from $old to $back"
  change "$back" "$revision"
  say "$back is current; $old is kept"
}

# Where model hosts have a user of their own: what that needs of the units, or nothing of it.
apply_model_user() {
  user=$(ainode_of "$opt/current" check-config --model-user "$etc/node.toml")
  for unit in ainode-.service ainode-dispatcher@.service ainode-dispatcher-stat.service; do
    folder=$root/etc/systemd/system/$unit.d
    if [ -z "$user" ]; then
      rm -f "$folder/60-model-user.conf"
      continue
    fi
    part=dispatcher
    [ $unit != ainode-.service ] || part=common
    mkdir -p "$folder"
    sed "s/ainode-model/$user/" "$opt/current/share/systemd/model-user/$part.conf" > "$folder/60-model-user.conf"
  done
}

do_apply() {
  wanted=$(ainode_of "$opt/current" check-config --units "$etc/node.toml")
  mkdir -p "$root/etc/systemd/system"
  for socket in ainode-receiver.socket ainode-receiver-tls.socket; do
    address=$(echo "$wanted" | sed -n "s/^$socket //p")
    folder=$root/etc/systemd/system/$socket.d
    if [ -n "$address" ]; then
      mkdir -p "$folder"
      printf '# Written by ainode-setup apply.\n[Socket]\nListenStream=\nListenStream=%s\n' "$address" > "$folder/10-address.conf.new"
      if cmp -s "$folder/10-address.conf.new" "$folder/10-address.conf"; then
        rm "$folder/10-address.conf.new"
      else
        mv "$folder/10-address.conf.new" "$folder/10-address.conf"
        ! running || { systemctl daemon-reload; systemctl stop "$socket" ainode-receiver.service; }
      fi
    fi
  done
  apply_model_user
  with_systemd || { say "no systemd is running here; $(echo "$wanted" | wc -l) units are asked for"; return; }
  systemctl daemon-reload
  for each in $(systemctl list-unit-files --no-legend --state=enabled 'ainode-*' | cut -d' ' -f1); do
    echo "$wanted" | cut -d' ' -f1 | grep -qxF "$each" || systemctl --quiet disable --now "$each"
  done
  for link in /etc/systemd/system/ainode.target.wants/*; do
    each=$(basename "$link")
    [ "$each" = '*' ] || echo "$wanted" | cut -d' ' -f1 | grep -qxF "$each" || systemctl --quiet disable --now "$each"
  done
  for each in $(echo "$wanted" | cut -d' ' -f1); do systemctl --quiet enable "$each"; done
  if running; then
    # Sockets first: they stay open from here on.
    for each in $(echo "$wanted" | sed -n 's/\.socket .*/.socket/p'); do systemctl start "$each"; done
    systemctl restart ainode.target
  fi
  say "applied: $(echo "$wanted" | cut -d' ' -f1 | tr '\n' ' ')"
}

do_versions() {
  for each in "$opt"/*/.complete; do
    folder=$(dirname "$each")
    [ -h "$folder" ] || basename "$folder"
  done
  echo "current: $(version_of current)"
  echo "previous: $(version_of previous)"
}

do_remove() {
  if with_systemd; then
    systemctl stop ainode.target 'ainode-*' || true
    for each in ainode.target $(systemctl list-unit-files --no-legend --state=enabled 'ainode-*' | cut -d' ' -f1); do
      systemctl --quiet disable "$each" || true
    done
    rm -rf /etc/systemd/system/ainode.target.wants
  fi
  rm -rf "$opt" "$units"/ainode.target "$units"/ainode-* "$root/usr/bin/ainode" "$root/usr/sbin/ainode-setup"
  rm -rf "$root/usr/lib/sysusers.d/ainode.conf" "$root/usr/lib/tmpfiles.d/ainode.conf" "$root"/etc/systemd/system/ainode-receiver*.socket.d
  rm -f "$root"/etc/systemd/system/ainode-*.service.d/60-model-user.conf
  ! with_systemd || systemctl daemon-reload
  say "removed. Data, configuration and backups are kept: $root/var/lib/ainode, $etc, $root/var/backups/ainode"
}

case ${1:-install} in
  install) do_install ;;
  apply) do_apply ;;
  rollback) do_rollback ;;
  versions) do_versions ;;
  remove) do_remove ;;
  *) sed -n '2,12s/^# \{0,1\}//p' "$here/$(basename "$0")"; exit 2 ;;
esac
