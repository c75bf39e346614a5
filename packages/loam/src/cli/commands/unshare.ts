import type { Command } from 'commander'
import { LoamError } from '../../errors/index.ts'
import { readRootless, runForeground } from '../../linux/index.ts'
import { addGlobalOptions } from '../session.ts'
import type { Host } from '../host.ts'

export function addUnshare(program: Command, host: Host): void {
  addGlobalOptions(program.command('unshare [command...]'))
    .description('run a program in the user namespace of a user who is not root')
    .passThroughOptions()
    .addHelpText(
      'after',
      `
A user who is not root works in a user namespace: there the user is root of the own files, and of the
subordinate IDs of /etc/subuid and /etc/subgid. Only programs in it see the mounts of root filesystems, and may
change or remove files of the other IDs. Without a program this starts the shell of $SHELL.

  loam unshare ls -ln $(loam provision --id web debian:12)
  loam unshare node server.js        # a program that uses the library`,
    )
    .action(async (words: readonly string[]) => {
      // It runs with the terminal and in the namespaces of the caller's process.
      host.requireOwnProcess()
      requireNamespace(host)
      const [file = host.env['SHELL'] ?? '/bin/sh', ...args] = words
      host.exitStatus = await runForeground(file, args, { env: definedOf(host.env) })
    })
}

/** @throws USAGE for root, UNSUPPORTED_SYSTEM with the reason if this user has no user namespace */
function requireNamespace({ env }: Host): void {
  const rootless = readRootless(env)
  if (rootless === undefined) {
    throw new LoamError('USAGE', 'unshare: root needs no user namespace', {
      hint: 'Start the program itself.',
    })
  }
  if (rootless.ids !== 'none') return
  throw new LoamError(
    'UNSUPPORTED_SYSTEM',
    `unshare: there is no user namespace (${rootless.why ?? 'turned off by LOAM_USER_NAMESPACE'})`,
    {
      hint: 'See /proc/sys/user/max_user_namespaces, and kernel.apparmor_restrict_unprivileged_userns on Ubuntu.',
    },
  )
}

function definedOf(env: Host['env']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
}
