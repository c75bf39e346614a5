import { StringDecoder } from 'node:string_decoder'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Command, InvalidArgumentError } from 'commander'
import type { Host } from '../host.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

/** How often to look whether the reader has read. */
const DRAIN_MS = 5

export function addLogs(program: Command, host: Host): void {
  addGlobalOptions(program.command('logs <container>'))
    .description('write the output of a detached process')
    .option('-f, --follow', 'wait for more until the process ends')
    .option('-n, --tail <lines>', 'only the last lines, or all (default: all)', parseLines)
    .addHelpText(
      'after',
      `
  loam logs web
  loam logs -f --tail 20 web

Standard output and standard error are in one file, which is removed with the container. Of more than 64 MiB the older
half is removed: the setting container_log_size.`,
    )
    .action(async (container: string, flags: GlobalOptions & { follow?: boolean; tail?: number | 'all' }) => {
      await withSession(host, flags, async ({ loam, signal, output }) => {
        const tail = flags.tail === 'all' ? undefined : flags.tail
        const decoder = new StringDecoder('utf8')
        const options = { tail, follow: flags.follow, signal }
        for await (const chunk of loam.containers.processes.logs(container, options)) {
          if (host.stdout.isTerminal) output.raw(decoder.write(chunk))
          else output.rawBytes(chunk)
          while (host.stdout.isBehind && !signal.aborted) await sleep(DRAIN_MS)
        }
        output.raw(decoder.end())
      })
    })
}

function parseLines(text: string): number | 'all' {
  if (text === 'all') return text
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give a number of lines, or all.')
  return Number(text)
}
