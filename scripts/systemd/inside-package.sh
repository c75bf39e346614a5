#!/bin/sh
# What is tried with the Debian package on a machine without Node: see machine.ts.
export LOAM_DAEMON=require
status=right
see() {
  if [ "$2" = "$3" ]; then echo "right: $1"; else echo "WRONG: $1: $2 is not $3"; status=wrong; fi
}
main_pid() { systemctl show --property MainPID --value loamd.service; }
until_active() {
  for _ in $(seq 120); do [ "$(systemctl is-active loamd.service)" = active ] && return; sleep 1; done
}

until_active
see 'there is no Node' "$(command -v node)" ''
see 'the service runs after the installation' "$(systemctl is-active loamd.service)" active
see 'its sockets, too' "$(systemctl is-active loamd.socket loamd-api.socket loamd-image-service.socket | sort -u)" active
loam put oci:/opt/check/layout:x example.test/x:1 >/dev/null
rootfs=$(loam provision --id web example.test/x:1)
see 'the daemon makes a root filesystem' "$(cat "$rootfs/hello")" 'a file'
see 'the command works without the daemon' "$(LOAM_DAEMON=never loam ps -q 2>/dev/null || LOAM_DAEMON=never loam ps --json | grep -c '"id": "web"')" "$(loam ps -q 2>/dev/null || echo 1)"

before=$(main_pid)
systemctl reload loamd.service
for _ in $(seq 60); do [ "$(main_pid)" != "$before" ] && break; sleep 1; done
see 'a reload starts another process' "$([ "$(main_pid)" != "$before" ] && echo yes)" yes
see 'the service stays active' "$(systemctl is-active loamd.service)" active

before=$(main_pid)
kill -9 "$before"
see 'after kill -9 the next command is answered' "$(loam images --json | grep -c example.test/x:1)" 1
until_active
see 'the service runs again' "$(systemctl is-active loamd.service)" active

dpkg --install /opt/check/loam.deb >/dev/null
until_active
see 'it runs after an upgrade' "$(systemctl is-active loamd.service)" active
see 'a root filesystem stays' "$(cat "$rootfs/hello")" 'a file'

dpkg --purge loam >/dev/null 2>&1
see 'nothing is left of the units' "$(systemctl list-unit-files 'loamd*' --no-legend | wc -l)" 0
see 'the store stays' "$(cat "$rootfs/hello")" 'a file'
echo "all is $status"
