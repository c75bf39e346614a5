import { InvalidArgumentError, Option } from 'commander'

/** The option of commands that create a file for users: who besides its owner may read it. */
export function modeOption(): Option {
  return new Option(
    '--mode <mode>',
    'permissions of the file in octal, for example 644 (default: 600)',
  ).argParser(parseMode)
}

function parseMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('Give three octal digits, for example 644.')
  return Number.parseInt(text, 8)
}
