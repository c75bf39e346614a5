import type { Command } from 'commander'

/** The groups of the help, in its order, and the commands of each. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  'Images:': [
    ...['pull', 'images', 'inspect', 'tags', 'history', 'layers', 'du', 'tag', 'untag', 'rmi'],
    ...['put', 'load', 'save', 'push', 'copy', 'export', 'unexport', 'disks', 'index', 'login', 'logout'],
  ],
  'Containers:': [
    ...['run', 'exec', 'logs', 'stop', 'kill', 'start', 'ps', 'rm', 'cp', 'diff', 'commit'],
    ...['provision', 'mount', 'umount', 'volume', 'destroy'],
  ],
  'Store:': ['df', 'prune', 'gc', 'fsck', 'recover'],
  'Machine:': ['doctor', 'config', 'status', 'events', 'ui', 'unshare', 'completion', 'help'],
  'Mesos:': ['import'],
  'containerd:': ['snapshot'],
}

/** Sorts the commands of a program into the groups of its help. */
export function groupCommands(program: Command): void {
  const order = Object.values(GROUPS).flat()
  const rank = (command: Command) => (order.indexOf(command.name()) + order.length + 1) % (order.length + 1)
  const sorted = program.commands.toSorted((a, b) => rank(a) - rank(b))
  const commands = program.commands as Command[]
  commands.splice(0, commands.length, ...sorted)
  for (const [heading, names] of Object.entries(GROUPS)) {
    for (const command of sorted) if (names.includes(command.name())) command.helpGroup(heading)
  }
}
