import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createProgram } from './program.ts'
import { processHost } from './process-host.ts'
import { translateWords } from './command-aliases.ts'

const helpOf = (...names: readonly string[]) => {
  let text = ''
  let command = createProgram('1', processHost(), () => undefined)
  for (const name of names) command = command.commands.find((each) => each.name() === name) ?? command
  command.configureOutput({
    writeOut: (part) => {
      text += part
    },
  })
  command.outputHelp()
  return text
}

test('each command is in a group of the help, and its own help has an example', () => {
  const program = createProgram('1', processHost(), () => undefined)
  for (const command of program.commands) {
    // The scripts of completions call it.
    if (command.name() === '__complete') continue
    assert.notEqual(command.helpGroup(), undefined, `${command.name()} has no group in command-groups.ts`)
    if (command.name() === 'help' || command.name() === 'snapshot') continue
    assert.match(helpOf(command.name()), /^ +(?:\S+ .*)?loam /m, `${command.name()} has no example`)
  }
  const headings = [...helpOf().matchAll(/^(\w+):$/gm)].map(([, heading]) => heading)
  assert.deepEqual(headings, ['Options', 'Images', 'Containers', 'Store', 'Machine', 'Mesos', 'containerd'])
})

test('two-word commands of docker and podman are those of Loam, and none of them removes more than it says', () => {
  const translated = (line: string) => translateWords(line.split(' '), 0).join(' ')
  for (const [line, own] of [
    ['image ls -q', 'images -q'],
    ['image rm x', 'rmi x'],
    ['container ls -a', 'ps -a'],
    ['container run -it x', 'run -it x'],
    ['system df', 'df'],
    ['ls', 'images'],
    ['image prune', 'image prune'],
    ['system prune -a', 'system prune -a'],
    ['container prune', 'container prune'],
    ['run image ls', 'run image ls'],
    ['image toString', 'image toString'],
  ] as const)
    assert.equal(translated(line), own, line)
})
