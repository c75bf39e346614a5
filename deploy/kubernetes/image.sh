#!/bin/sh
# Builds an image of loamd with Loam itself, and pushes it.
#   sh deploy/kubernetes/image.sh BASE TARGET      in a checkout, as root; for example docker.io/library/debian:12-slim registry.example/loamd:0.1.0
# BASE is an image of Debian or its like. TARGET needs credentials of `docker login` or `podman login`. Options of `loam` by its environment: LOAM_ROOT,
# LOAM_STATE, LOAM_INSECURE_REGISTRIES. Nothing but the image is left.
set -eu
base=${1:?BASE is missing} target=${2:?TARGET is missing}
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
id=loamd-image-$$
work=$(mktemp -d)
trap 'loam --quiet destroy "$id" >&2 || true; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

npm run --silent build >&2
npm pack --silent --workspace packages/loam --workspace packages/loamd --pack-destination "$work" >&2
npm install --silent --prefix "$work/opt" --omit=dev --ignore-scripts --no-audit --no-fund "$work"/*.tgz >&2

rootfs=$(loam provision --id "$id" "$base")
mkdir -p "$rootfs/opt/loam" "$rootfs/usr/local/bin"
cp -R "$work/opt/node_modules" "$rootfs/opt/loam"
install -m 755 "$(node -p process.execPath)" "$rootfs/usr/local/bin/node"
# Node's own libraries that BASE lacks, libatomic for example.
ldd "$rootfs/usr/local/bin/node" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | while read -r library; do
  name=$(basename "$library")
  [ -n "$(find "$rootfs/lib" "$rootfs/lib64" "$rootfs/usr/lib" -name "$name" 2>/dev/null | head -n 1)" ] ||
    install -D -m 644 "$library" "$rootfs/usr/local/lib/$name"
done
chroot "$rootfs" ldconfig
for program in loam loamd; do
  ln -sf "/opt/loam/node_modules/.bin/$program" "$rootfs/usr/local/bin/$program"
done
chroot "$rootfs" loamd --version >&2
loam snapshot commit "$id" "$target" --push
