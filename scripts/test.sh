#!/bin/sh
# Sets up a fresh Debian 12 (root, Node 20 on the PATH) with all that the checks and tests need, and runs them.
set -eu
cd "$(dirname "$0")/.."
packages="apache2-utils appc-spec attr binutils btrfs-progs busybox-static bzip2 chromium containerd cpio docker-registry e2fsprogs eatmydata erofs-utils faketime fonts-dejavu-core gnupg golang-github-containerd-containerd-dev golang-go gpgv kmod libarchive-tools libbz2-1.0 libisal2 liblzma5 mandoc mmdebstrap mount openssl podman prometheus qemu-system-x86 runc skopeo sqlite3 stargz-snapshotter strace systemd tmux uidmap umoci util-linux xfsprogs xz-utils"
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || apt-get update -qq
sh scripts/fetch-test-tools.sh
npm ci --no-audit --no-fund
# Its faults take the same cases each time; `npm run faults` by itself takes others at each run.
npm run verify
