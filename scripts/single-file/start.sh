#!/bin/sh
# Loam @VERSION@ for @ARCH@: `loam`, and `loamd` where this file has that name or a link of it. Behind this script is the executable, compressed. The first
# start unpacks it into the cache of its user, which may be emptied at any time: @SIZE@ MB.
case $0 in /*) _program=$0 ;; *) _program=$PWD/$0 ;; esac
case ${0##*/} in loamd*) _name=loamd ;; *) _name=loam ;; esac
if [ "$(id -u)" = 0 ]; then _folder=/var/cache/loam; else _folder=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/loam; fi
_own=$_folder/@DIGEST@
_file=$_own/$_name
# Only a file of this user is run, in a directory where only this user writes.
if ! { [ -O "$_folder" ] && [ -O "$_file" ] && [ -x "$_file" ]; }; then
  if ! (
    umask 077
    mkdir -p "${_folder%/*}" && { [ -O "$_folder" ] || mkdir "$_folder"; } && mkdir -p "$_own" &&
      tail -n +@LINES@ "$_program" | gzip -dc >"$_own/.$$" && chmod 700 "$_own/.$$" &&
      { sync "$_own/.$$" 2>/dev/null || sync; } && ln -f "$_own/.$$" "$_own/loamd" && mv "$_own/.$$" "$_own/loam"
  ); then
    echo "$_name: unpack $_program to $_folder: this has failed" >&2
    echo "hint: Name another directory by XDG_CACHE_HOME, or install the Debian package." >&2
    exit 125
  fi
fi
# No word reaches Node as it was typed: see packages/loam/bin/loam.cjs.
eval "exec \"\$_file\" @$_name \"\$_program\"$(_n=0; for _ do _n=$((_n + 1)); printf ' ".${%d}"' $_n; done)"
