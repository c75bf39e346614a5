#!/bin/sh
# Unpacks, beside the machine's own packages, what tests need and must not install: Debian's kernel for a virtual machine, and
# a newer erofs-utils, whose fsck.erofs reads images of 512-byte blocks (Debian 12's reads only 4 KiB). Kept in the checkout.
set -eu
tools=$(cd "$(dirname "$0")/.." && pwd)/.cache/test-tools
mkdir -p "$tools"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The user that apt downloads as has to reach it.
chmod 755 "$work"
cd "$work"

if [ ! -e "$tools/kernel/vmlinuz" ]; then
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1)
  apt-get download -qq "$package"
  dpkg -x ./*.deb unpacked
  version=$(ls unpacked/lib/modules)
  depmod -b unpacked "$version"
  mkdir -p kernel/modules
  for module in virtio_pci virtio_blk erofs; do
    modprobe -d "$work/unpacked" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*$/\1/p' |
      while read -r file; do
        name=$(basename "$file")
        ls kernel/modules/*"-$name" >/dev/null 2>&1 || cp "$file" "kernel/modules/$(ls kernel/modules | wc -l | awk '{ print 10 + $1 }')-$name"
      done
  done
  cp "unpacked/boot/vmlinuz-$version" kernel/vmlinuz
  rm -rf "$tools/kernel"
  mv kernel "$tools/kernel"
  rm -rf unpacked ./*.deb
fi

# From the next release of Debian, by the sources that the machine has; with its own C library, since it is newer.
if [ ! -e "$tools/erofs-utils/fsck.erofs" ]; then
  mkdir -p lists/partial cache/archives/partial unpacked
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | sed -n 's/ bookworm$//p' | head -n 1)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >next.list
  options="-o Dir::Etc::sourcelist=$work/next.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache"
  # shellcheck disable=SC2086
  if apt-get $options update -qq >/dev/null 2>&1 &&
    apt-get $options download -qq erofs-utils libc6 liblz4-1 liblzma5 libzstd1 zlib1g libuuid1 libselinux1 libpcre2-8-0 libdeflate0 libxxhash0 >/dev/null 2>&1; then
    for package in ./*.deb; do dpkg -x "$package" unpacked; done
    mkdir -p new/lib
    find unpacked -name '*.so*' \( -type f -o -type l ! -name 'ld-*' \) -exec cp -P {} new/lib/ \;
    cp "$(find unpacked -name fsck.erofs -type f)" new/fsck.erofs.bin
    printf '#!/bin/sh\nexec %s/lib/ld-linux-x86-64.so.2 --library-path %s/lib %s/fsck.erofs.bin "$@"\n' \
      "$tools/erofs-utils" "$tools/erofs-utils" "$tools/erofs-utils" >new/fsck.erofs
    chmod 755 new/fsck.erofs
    rm -rf "$tools/erofs-utils"
    mv new "$tools/erofs-utils"
  else
    echo 'no newer erofs-utils to be had: images of 512-byte blocks are judged by the kernel alone' >&2
  fi
fi
