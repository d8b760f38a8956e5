#!/bin/sh
# Installs this checkout below /opt/ainode as a systemd service. Run as root on the host.
#
#   systemd/install.sh            install or upgrade, do not start
#   systemctl enable --now ainode
set -eu

source=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "install.sh: run as root" >&2; exit 2; }
command -v systemctl >/dev/null || { echo "install.sh: this host has no systemd; run 'ainode serve' under your own supervisor" >&2; exit 1; }

python3 -m venv /opt/ainode
/opt/ainode/bin/python -m pip install --quiet --constraint "$source/constraints.txt" "$source"

install -D -m 0644 "$source/systemd/ainode.sysusers" /usr/lib/sysusers.d/ainode.conf
install -D -m 0644 "$source/systemd/ainode.tmpfiles" /usr/lib/tmpfiles.d/ainode.conf
install -D -m 0644 "$source/systemd/ainode.service" /usr/lib/systemd/system/ainode.service
systemd-sysusers /usr/lib/sysusers.d/ainode.conf
systemd-tmpfiles --create /usr/lib/tmpfiles.d/ainode.conf

# A site's own configuration is never replaced.
for file in node.toml routing.toml; do
  [ -e "/etc/ainode/$file" ] || install -m 0640 -g ainode "$source/config/$file" "/etc/ainode/$file"
done
sed -i 's#^data_dir = "~/.local/share/ainode"#data_dir = "/var/lib/ainode"#' /etc/ainode/node.toml

/opt/ainode/bin/ainode check-config /etc/ainode/node.toml
systemctl daemon-reload
echo "Installed. Edit /etc/ainode/node.toml (address, allowed peers, destinations), then: systemctl enable --now ainode"
