/** The parameters of the units of one installation. All paths are absolute. */
export interface UnitOptions {
  /** The program and its arguments. */
  readonly command: readonly string[]
  readonly root: string
  readonly state: string
  /** Socket of containerd's snapshots API. */
  readonly grpcSocket: string
  /** Socket of Loam's own API. */
  readonly socket: string
  readonly socketGroup: string | undefined
  /** Socket of CRI's image service. */
  readonly imageSocket: string
}

/** A unit of systemd: the name of its file, and its text. */
export interface Unit {
  readonly name: string
  readonly text: string
}

/** The units, in the order in which they are enabled. */
export function createUnits(options: UnitOptions): readonly Unit[] {
  const { grpcSocket, socket, socketGroup, imageSocket } = options
  return [
    {
      name: 'loamd.socket',
      text: socketUnit({ description: "containerd's snapshots API", path: grpcSocket, name: 'snapshotter' }),
    },
    {
      name: 'loamd-api.socket',
      text: socketUnit({ description: 'its own API', path: socket, name: 'api', group: socketGroup }),
    },
    {
      name: 'loamd-image-service.socket',
      text: socketUnit({ description: "CRI's image service", path: imageSocket, name: 'image-service' }),
    },
    { name: 'loamd.service', text: serviceUnit(options) },
  ]
}

interface SocketOptions {
  readonly description: string
  readonly path: string
  /** The name that `passedSockets` expects. */
  readonly name: string
  readonly group?: string | undefined
}

function socketUnit({ description, path, name, group }: SocketOptions): string {
  const access =
    group === undefined ? 'SocketMode=0600' : `SocketMode=0660\nSocketGroup=${escapeSpecifiers(group)}`
  return `[Unit]
Description=Socket of Loam for ${description}

[Socket]
ListenStream=${escapeSpecifiers(path)}
FileDescriptorName=${name}
Service=loamd.service
${access}
DirectoryMode=0711
# A service that fails again and again does not take its socket with it.
TriggerLimitIntervalSec=0

[Install]
WantedBy=sockets.target
`
}

function serviceUnit({ command, root, state }: UnitOptions): string {
  return `[Unit]
Description=Loam, root filesystems from container images
Before=containerd.service kubelet.service
RequiresMountsFor=${quote(root)} ${quote(state)}
# It is started again however often it fails.
StartLimitIntervalSec=0

[Service]
Type=notify
# A daemon that takes over reports itself.
NotifyAccess=all
ExecStart=${command.map(quoteArgument).join(' ')}
# /bin/kill is not on each machine.
ExecReload=/bin/sh -c 'kill -HUP $$MAINPID'
Sockets=loamd.socket loamd-api.socket loamd-image-service.socket
Restart=always
RestartSec=1
# After a crash it first cleans up and mounts again, however long that takes.
TimeoutStartSec=infinity
TimeoutStopSec=60
# Four times as long as it may wait for another process that writes to the database.
WatchdogSec=120
# Mounts of images stay when it stops: containers run on them.
KillMode=mixed
OOMScoreAdjust=-999
TasksMax=infinity
# It holds tokens.
LimitCORE=0
KeyringMode=private

# The machine must see the mounts. So nothing here gives the service a mount namespace of its own, which ProtectSystem=, PrivateTmp=,
# PrivateDevices=, ReadOnlyPaths=, ProtectKernelTunables= and their like do.
NoNewPrivileges=yes
CapabilityBoundingSet=${CAPABILITIES.join(' ')}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# A child creates those of ID-mapped mounts.
RestrictNamespaces=user
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
# What is refused, and not what is allowed: systemd does not know the newest calls for mounts.
SystemCallFilter=~${REFUSED_CALLS.join(' ')}
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`
}

/** Capabilities of the daemon: for mounts, for layers with any owner, mode, device, attribute and file capability, and for the IDs of user namespaces. A runtime's processes are not its children. */
const CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_LINUX_IMMUTABLE',
  'CAP_MKNOD',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SYS_ADMIN',
  'CAP_SYS_PTRACE',
  'CAP_SYS_RESOURCE',
] as const

const REFUSED_CALLS = [
  '@clock',
  '@cpu-emulation',
  '@debug',
  '@module',
  '@obsolete',
  '@raw-io',
  '@reboot',
  '@swap',
] as const

/** A word of a unit's command line, in which `$` would begin a variable (systemd.service(5)). */
function quoteArgument(word: string): string {
  return quote(word).replaceAll('$', '$$$$')
}

/** A word in a list (systemd.syntax(7)). */
function quote(word: string): string {
  const escaped = escapeSpecifiers(word).replaceAll('\\', '\\\\').replaceAll('"', '\\"')
  return /^[\w./:=,@%+-]+$/.test(escaped) ? escaped : `"${escaped}"`
}

function escapeSpecifiers(text: string): string {
  return text.replaceAll('%', '%%')
}
