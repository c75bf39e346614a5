import type { Command } from 'commander'

/** Examples of commands with few options. */
const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  untag: ['loam untag registry.lan/base:1'],
  rmi: ['loam rmi debian:12', 'loam rmi 4bf2067b            an image without a name, by its digest'],
  unexport: ['loam unexport /srv/images debian:12'],
  df: ['loam df', 'loam df --layers'],
  gc: ['loam gc --dry-run'],
  fsck: ['loam fsck', 'loam fsck --repair            fetch or rebuild what is damaged'],
  recover: ['loam recover                  after a crash or a restart of the machine'],
  doctor: ['loam doctor', 'loam doctor --containerd      check the configuration of containerd'],
  config: ['loam config', 'loam config --root /srv/loam'],
  status: ['loam status', 'loam status --json'],
  events: ['loam events', 'loam events --json'],
  ui: ['loam ui'],
}

/** Adds examples to the help of commands that bring none. */
export function addExamples(program: Command): void {
  for (const command of program.commands) {
    const lines = Object.hasOwn(EXAMPLES, command.name()) ? EXAMPLES[command.name()] : undefined
    if (lines !== undefined) command.addHelpText('after', `\n${lines.map((line) => `  ${line}`).join('\n')}`)
  }
}
