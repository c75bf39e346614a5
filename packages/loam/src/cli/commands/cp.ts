import { resolve } from 'node:path'
import type { Command } from 'commander'
import { LoamError } from '../../errors/index.ts'
import type { Host } from '../host.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends GlobalOptions {
  readonly archive?: boolean
  readonly followLink?: boolean
}

export function addCp(program: Command, host: Host): void {
  addGlobalOptions(program.command('cp <source> <target>'))
    .description('copy files between a container, CONTAINER:PATH, and this machine; - is a tar')
    .option('-a, --archive', 'keep owners, extended attributes and setuid bits')
    .option('-L, --follow-link', 'copy what a symlink at the end of the source refers to')
    .addHelpText(
      'after',
      `
  loam cp web:/etc/nginx/nginx.conf .
  loam cp site/. web:/srv/site              the content of a directory
  loam cp -a web:/var/log ./log
  loam cp web:/etc - | tar -t                a tar to standard output, with the owners in the container
  tar -c site | loam cp - web:/srv           a tar from standard input, compressed or not, into a directory

The container may run or not. A directory that exists at the target gets the source as an entry; otherwise the copy
has the target's name. What is copied into a container belongs to its root, what is copied out to you. Symlinks are
copied as they are, and never lead out of the container; devices, pipes and sockets are left out. A symlink of this
machine that is the target is followed only with a slash after it. What is mounted in the container is not copied. A
path of this machine with a colon is written ./a:b.`,
    )
    .action(async (source: string, target: string, flags: Flags) => {
      const from = parsePlace(source)
      const to = parsePlace(target)
      checkStreams(source, target, host)
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const options = { keepsOwners: flags.archive, followsLink: flags.followLink, signal }
        const report = await copy()
        for (const line of report.leftOut) output.difference(line)
        if (target !== '-') output.result(report, () => [])

        async function copy() {
          if (from.id !== undefined && target === '-')
            return loam.containers.files.pack(from.id, from.path, '-', options)
          if (to.id !== undefined && source === '-')
            return loam.containers.files.unpack(to.id, '-', to.path, options)
          if (from.id !== undefined && to.id === undefined)
            return loam.containers.files.copyFrom(from.id, from.path, onHost(to.path, host.cwd), options)
          if (to.id !== undefined && from.id === undefined)
            return loam.containers.files.copyTo(to.id, onHost(from.path, host.cwd), to.path, options)
          throw new LoamError('USAGE', `copy ${source} to ${target}: one of them has to be CONTAINER:PATH`, {
            hint: 'loam cp web:/etc/hosts . copies out of a container, and loam cp file web:/tmp into it.',
          })
        }
      })
    })
}

interface Place {
  /** Undefined: a path of this machine. */
  readonly id: string | undefined
  readonly path: string
}

/** A stream is read or written by this process, and a tar is nothing for a terminal. @throws USAGE */
function checkStreams(source: string, target: string, host: Host): void {
  if (source !== '-' && target !== '-') return
  host.requireOwnProcess()
  if (target === '-' && host.stdout.isTerminal)
    throw new LoamError('USAGE', `copy ${source} to a stream: standard output is a terminal`, {
      hint: 'Redirect it, or name a file or a directory in place of -.',
    })
  if (source === '-' && host.stdin.isTerminal)
    throw new LoamError('USAGE', `copy a stream to ${target}: standard input is a terminal`, {
      hint: `Pipe a tar into it: tar -c FILES | loam cp - ${target}`,
    })
}

/** As in docker: what begins with a dot or a slash is a path of this machine. */
function parsePlace(text: string): Place {
  const colon = text.indexOf(':')
  if (colon < 1 || /^[./]/.test(text)) return { id: undefined, path: text }
  return { id: text.slice(0, colon), path: text.slice(colon + 1) }
}

/** A slash or a dot at the end has a meaning. */
function onHost(path: string, cwd: string): string {
  const [, end = ''] = /(\/\.?)$/.exec(path) ?? (path === '.' ? ['', '/.'] : [])
  return `${resolve(cwd, path).replace(/\/$/, '')}${end}` || '/'
}
