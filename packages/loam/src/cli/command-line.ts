import type { Command, Option } from 'commander'

/**
 * Returns the words of a command line with the options of its command behind that command's name: what stands in front of it counts, too,
 * as `--json` and `--root` do. Words behind the name stay where they are.
 */
export function moveOptions(program: Command, args: readonly string[]): readonly string[] {
  const own: string[] = []
  const moved: string[] = []
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index] ?? ''
    if (!arg.startsWith('-') || arg === '--') return [...own, arg, ...moved, ...args.slice(index + 1)]
    const [ofProgram, ofCommand] = [findOption(program, arg), findInCommands(program, arg)]
    const target = ofProgram === undefined && ofCommand !== undefined ? moved : own
    target.push(arg)
    const option = ofProgram ?? ofCommand
    // An option that is not known here is a setting, or an error to be told of.
    const takesNext = option?.required ?? isSettingWithValue(arg, args[index + 1])
    if (takesNext && !arg.includes('=') && index + 1 < args.length) {
      index += 1
      target.push(args[index] ?? '')
    }
  }
  return [...own, ...moved]

  /** `--name value` in front of a command: the value is not the command's name. */
  function isSettingWithValue(arg: string, next: string | undefined): boolean {
    if (!arg.startsWith('--') || next === undefined || next.startsWith('-')) return false
    return !program.commands.some((command) => command.name() === next)
  }
}

function findInCommands(program: Command, arg: string): Option | undefined {
  return program.commands.flatMap((command) => findOption(command, arg) ?? [])[0]
}

function findOption(command: Command, arg: string): Option | undefined {
  const word = arg.startsWith('--') ? arg.replace(/=.*/s, '') : arg
  return command.options.find(({ long, short }) => long === word || short === word)
}

/** Returns what Loam itself is told: for `run`, what stands in front of the image. */
export function ownWords(args: readonly string[]): readonly string[] {
  const run = args.indexOf('run')
  const end = args.indexOf('--')
  const own = end < 0 ? args : args.slice(0, end)
  if (run < 0 || run >= own.length) return own
  const image = own.findIndex((arg, index) => index > run && !arg.startsWith('-'))
  return image < 0 ? own : own.slice(0, image)
}
