const NO_PORTS = 'Loam does not forward ports; --network host shares the network of this machine.'
const NO_DEVICES = 'Loam does not pass host devices to containers.'
const NO_RESTART =
  'Loam does not restart processes; let systemd do it: a service with ExecStart=loam run IMAGE and Restart=always.'
const NO_NAMES =
  'A container has a network without name servers; with --network host it has those of this machine, and --volume ./hosts:/etc/hosts adds names.'
const NO_LABELS = 'Loam keeps no labels of containers; --id names them.'
const own = (what: string) => `A container always has its own ${what}.`

/** Options of `run` of podman and docker that Loam does not have, and their replacements. */
const RUN: Readonly<Record<string, string>> = {
  '--privileged':
    'Grant what the process needs instead: --cap-add ALL --security-opt seccomp=unconfined --security-opt no-new-privileges=false, and --mount for files.',
  '--pull':
    'Write --pull always or --pull missing, the default: an image that is in the store is not pulled, and `loam inspect IMAGE` says whether it is.',
  '--device': NO_DEVICES,
  '--gpus': NO_DEVICES,
  '--publish': NO_PORTS,
  '--publish-all': NO_PORTS,
  '--expose': NO_PORTS,
  '-p': NO_PORTS,
  '-P': NO_PORTS,
  '--pid': own('PID namespace'),
  '--ipc': own('IPC namespace'),
  '--uts': own('UTS namespace'),
  '--cgroupns': own('cgroup namespace'),
  '--restart': NO_RESTART,
  '--pod': 'Loam has no pods; --network ns:PATH puts containers into one network.',
  '--link': 'Loam has no networks of containers; --network ns:PATH puts containers into one.',
  '--dns': NO_NAMES,
  '--dns-search': NO_NAMES,
  '--add-host': NO_NAMES,
  '--volumes-from': 'Mount the same paths or images in both containers, with --volume or --mount.',
  '--label': NO_LABELS,
  '-l': NO_LABELS,
  '--annotation': NO_LABELS,
  '--log-driver': 'The output of a detached process is a file that `loam logs` shows.',
  '--log-opt':
    'The setting container_log_size limits the output: `loam run --container_log_size 10485760 -d IMAGE`.',
  '--health-cmd': 'Loam does not run health checks; `loam exec` runs a command in a container.',
  '--stop-signal': "`loam stop` sends the image's signal; `loam kill --signal` sends another one.",
  '--stop-timeout': '`loam stop --timeout SECONDS` says how long to wait.',
  '--memory-swap': '--memory limits memory, and swap to as much again.',
  '--cpu-shares': '--cpus limits processor time.',
  '--cpuset-cpus': '--cpus limits processor time; `taskset` chooses processors.',
  '--ulimit': 'A process inherits the limits of `loam`: set them with ulimit before.',
  '--sysctl': 'Loam does not set kernel parameters of containers.',
  '--shm-size': '--tmpfs /dev/shm:size=1g,mode=1777 replaces /dev/shm.',
  '--group-add': '--user USER:GROUP says the group.',
  '--cidfile': '`loam run --detach` prints the ID, and --id chooses it.',
  '--init':
    'Loam brings no init; run one of the image: --entrypoint /sbin/tini, or mount a static one with --volume.',
  '--runtime': 'The setting `runtime` names the OCI runtime.',
  '--attach': '`loam run` without --detach is attached.',
  '-a': '`loam run` without --detach is attached.',
}

const NO_SIZES = '`loam df` shows the disk space of each container and each image.'
const NO_TIMES = 'Loam keeps no times of the lines of an output; --tail LINES shows the last ones.'
const ALWAYS_LATER = 'Layers always stay until `loam prune`.'

/** Options of podman and docker that Loam does not have, and their replacements, by the command. */
export const OTHER_OPTIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  run: RUN,
  inspect: { '--size': NO_SIZES, '-s': NO_SIZES },
  ps: { '--size': NO_SIZES, '-s': NO_SIZES },
  logs: {
    '--since': NO_TIMES,
    '--until': NO_TIMES,
    '--timestamps': NO_TIMES,
    '-t': NO_TIMES,
    '--details': 'Loam keeps no labels of containers.',
  },
  rmi: { '--no-prune': ALWAYS_LATER },
  prune: {
    '--filter':
      '--exclude IMAGE keeps an image; `loam gc` removes those that were not used for long, as image_gc_config says.',
    '--volumes':
      'Loam has no volumes of its own: paths of this machine stay, and image volumes end with their container.',
  },
  start: {
    '--attach': '`loam logs -f` follows the output of a container.',
    '-a': '`loam logs -f` follows the output of a container.',
    '--interactive': '`loam exec -it` runs a shell in a container.',
    '-i': '`loam exec -it` runs a shell in a container.',
  },
}

/** Keys of --filter of podman and docker that Loam does not have. */
export const OTHER_FILTERS: Readonly<Record<string, string>> = {
  label: "`loam inspect --format '{{json .Config.Labels}}' IMAGE` shows the labels of an image.",
  until: '`before=IMAGE` lists those that were pulled before another one.',
  exited: '`status=exited` lists the containers whose process has ended.',
  network: '`loam ps` does not know networks.',
  volume: '`loam ps` lists the image volumes of a container as its root filesystems.',
}
