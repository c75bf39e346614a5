/** Commands of other tools, and their counterparts in Loam or elsewhere. */
export const OTHER_WORDS: Readonly<Record<string, string>> = {
  image: '`loam images` lists images; `loam image ls|pull|push|rm|tag|inspect` is understood.',
  container: '`loam ps` lists containers; `loam container ls|run|exec|logs|rm` is understood.',
  containers: '`loam ps` lists containers.',
  system: '`loam df` shows disk usage, `loam doctor` what works on this machine.',
  create: '`loam provision` creates a root filesystem, `loam run` runs a process in one.',
  unpack: '`loam provision` creates a root filesystem from an image.',
  fetch: '`loam pull` pulls an image into the store.',
  check: '`loam fsck` verifies the store.',
  verify: '`loam fsck` verifies the store.',
  info: '`loam doctor` reports what works on this machine, `loam config` shows the settings.',
  version: '`loam --version` prints the version.',
  attach: '`loam logs -f` follows the output of a container, `loam exec -it` runs a shell in it.',
  top: '`loam exec CONTAINER ps` lists the processes of a container.',
  stats: 'Loam does not measure processes; `systemd-cgtop` does.',
  restart: '`loam stop` and `loam start` restart the process of a container.',
  pause: 'Loam does not pause processes; `loam kill -s STOP` and `-s CONT` do it for the first one.',
  unpause: '`loam kill -s CONT` continues a process.',
  wait: '`loam run` without --detach waits; `loam logs -f` ends with the process.',
  port: 'Loam does not forward ports; --network host shares the network of this machine.',
  rename: 'A container keeps its ID; `loam tag` gives an image another name.',
  update: 'The limits of a container are chosen by `loam run`.',
  network: '`loam run --network none|host|ns:PATH` chooses the network of a container.',
  compose: 'Loam runs single containers; `podman-compose` runs several.',
  'list-tags': '`loam tags REPOSITORY` lists the tags of a repository.',
  manifest: '`loam inspect --raw IMAGE` writes the manifest of an image in its registry.',
  digest: '`loam inspect --remote --format {{.Digest}} IMAGE` writes the digest of a tag.',
  search: 'Loam does not search registries; `podman search` does.',
  build: 'Loam does not build images; `podman build` does.',
}

const NO_VOLUMES =
  'Loam has no named volumes: `loam run --volume ./data:/data` mounts a directory, and `loam volume` images in a container.'

/** Commands of two words that Loam does not take as one of its own, and their counterparts. */
export const OTHER_PAIRS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  image: {
    prune: '`loam prune` removes unnamed images and unused layers, and with --all named images, too.',
    exists: '`loam inspect --type image IMAGE` fails if there is no such image.',
    tree: '`loam layers IMAGE` lists the layers of an image.',
    scp: '`loam save IMAGE | ssh HOST loam load` copies an image to another machine.',
    trust: 'The setting signature_policy says which signatures are needed.',
  },
  container: {
    prune: '`loam rm $(loam ps -q --filter status=exited)` removes the containers whose process has ended.',
    exists: '`loam inspect --type container ID` fails if there is no such container.',
  },
  system: {
    prune: '`loam prune` removes unnamed images and unused layers; containers stay until `loam rm`.',
    reset: 'Remove the directory of the store; Loam itself never needs it.',
    service: '`loamd` serves an API of its own.',
  },
  volume: Object.fromEntries(
    ['ls', 'list', 'create', 'rm', 'remove', 'inspect', 'prune', 'exists'].map((word) => [word, NO_VOLUMES]),
  ),
}
