#!/bin/sh
# Unpacks, beside the machine's own packages, what tests need and must not install: Debian's kernels for virtual machines, a
# newer erofs-utils, whose fsck.erofs reads images of 512-byte blocks (Debian 12's reads only 4 KiB), the newest containerd, runc
# and Docker of Debian, and, when called with `bench`, the newest containerd with what its EROFS snapshotter calls. Kept in the checkout.
set -eu
tools=$(cd "$(dirname "$0")/.." && pwd)/.cache/test-tools
mkdir -p "$tools"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The user that apt downloads as has to reach it.
chmod 755 "$work"
cd "$work"

# kernel_of PACKAGE [OPTION…]: the kernel that a package without files stands for; every other package as it is.
kernel_of() {
  package=$1
  shift
  case $package in
    linux-image-cloud-amd64)
      apt-cache "$@" depends "$package" | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1
      ;;
    *) echo "$package" ;;
  esac
}

# keep_kernel NAME: of unpacked/, with the modules that a virtual machine needs, in the order in which they are loaded.
keep_kernel() {
  [ -e unpacked/lib ] || ln -s usr/lib unpacked/lib
  version=$(ls unpacked/lib/modules)
  depmod -b "$work/unpacked" "$version"
  mkdir -p kernel/modules
  for module in virtio_pci virtio_blk erofs; do
    modprobe -d "$work/unpacked" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*$/\1/p' |
      while read -r file; do
        name=$(basename "${file%.xz}")
        ls kernel/modules/*"-$name" >/dev/null 2>&1 && continue
        to="kernel/modules/$(ls kernel/modules | wc -l | awk '{ print 10 + $1 }')-$name"
        case $file in *.xz) xz -dc "$file" >"$to" ;; *) cp "$file" "$to" ;; esac
      done
  done
  cp "unpacked/boot/vmlinuz-$version" kernel/vmlinuz
  rm -rf "${tools:?}/$1"
  mv kernel "$tools/$1"
  rm -rf unpacked ./*.deb
}

if [ ! -e "$tools/kernel/vmlinuz" ]; then
  apt-get download -qq "$(kernel_of linux-image-cloud-amd64)"
  dpkg -x ./*.deb unpacked
  keep_kernel kernel
fi

# unpack_from RELEASE PACKAGE…: by the sources that the machine has; into unpacked/, and the shared libraries into new/lib.
unpack_from() {
  release=$1
  shift
  rm -rf lists cache unpacked new ./*.deb
  mkdir -p lists/partial cache/archives/partial unpacked new/lib
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | sed -n 's/ bookworm$//p' | head -n 1)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >next.list
  options="-o Dir::Etc::sourcelist=$work/next.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache"
  # shellcheck disable=SC2086
  apt-get $options update -qq >/dev/null 2>&1 || return 1
  # shellcheck disable=SC2046,SC2086
  apt-get $options download -qq $(for package in "$@"; do kernel_of "$package" $options; done) >/dev/null 2>&1 || return 1
  for package in ./*.deb; do dpkg -x "$package" unpacked; done
  find unpacked -name '*.so*' \( -type f -o -type l ! -name 'ld-*' \) -exec cp -P {} new/lib/ \;
}

# Debian 12's kernel does not mount disks of 512-byte blocks.
if [ ! -e "$tools/newer-kernel/vmlinuz" ]; then
  if unpack_from trixie linux-image-cloud-amd64; then
    keep_kernel newer-kernel
  else
    echo 'no newer kernel to be had: no machine boots from a disk without a copy' >&2
  fi
fi

# with_its_libraries FOLDER FILE: a program that is newer than the machine's C library, and a script that starts it with its own.
with_its_libraries() {
  cp "$(find unpacked -name "${2##*/}" -type f -perm -100)" "new/$2.bin"
  printf '#!/bin/sh\nexec %s/lib/ld-linux-x86-64.so.2 --library-path %s/lib %s.bin "$@"\n' "$1" "$1" "$1/$2" >"new/$2"
  chmod 755 "new/$2"
}

libraries='libc6 liblz4-1 liblzma5 libzstd1 zlib1g libuuid1 libselinux1 libpcre2-8-0 libdeflate0 libxxhash0'
if [ ! -e "$tools/erofs-utils/fsck.erofs" ]; then
  # shellcheck disable=SC2086
  if unpack_from trixie erofs-utils $libraries; then
    with_its_libraries "$tools/erofs-utils" fsck.erofs
    rm -rf "$tools/erofs-utils"
    mv new "$tools/erofs-utils"
  else
    echo 'no newer erofs-utils to be had: images of 512-byte blocks are judged by the kernel alone' >&2
  fi
fi

# containerd and Docker run with the machine's C library. runc needs a newer one, and starts its own file again: so that file names its loader.
if [ ! -e "$tools/clients/bin/dockerd" ]; then
  apt-get download -qq patchelf 2>/dev/null && dpkg -x patchelf_*.deb patchelf
  # shellcheck disable=SC2086
  if unpack_from sid containerd runc docker.io docker-cli docker-buildx libc6 libseccomp2; then
    mkdir new/bin
    for program in containerd ctr containerd-shim-runc-v2 runc dockerd docker docker-buildx; do
      cp "$(find unpacked/usr/*bin unpacked/usr/libexec -name "$program" -type f)" new/bin/
    done
    patchelf/usr/bin/patchelf --set-interpreter "$tools/clients/lib/ld-linux-x86-64.so.2" --set-rpath "$tools/clients/lib" new/bin/runc
    rm -rf "$tools/clients"
    mv new "$tools/clients"
  else
    echo 'no newer containerd and Docker to be had: their tests are skipped' >&2
  fi
fi

# containerd and igzip run with the machine's C library, mkfs.erofs needs a newer one.
if [ "${1:-}" = bench ] && [ ! -e "$tools/containerd/bin/containerd" ]; then
  # shellcheck disable=SC2086
  unpack_from sid containerd isal erofs-utils libisal2 libseccomp2 libxml2-16 libjson-c5 $libraries
  mkdir new/bin
  for program in containerd ctr igzip; do cp "unpacked/usr/bin/$program" new/bin/; done
  with_its_libraries "$tools/containerd" bin/mkfs.erofs
  rm -rf "$tools/containerd"
  mv new "$tools/containerd"
fi
