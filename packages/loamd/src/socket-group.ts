import { readFileSync } from 'node:fs'
import { LoamError } from 'loamfs'

/** Returns the ID of a group of this machine, by its name or number. @throws LoamError CONFIG_INVALID */
export function findGroupId(group: string): number {
  if (/^\d{1,9}$/.test(group)) return Number(group)
  const lines = readFileSync('/etc/group', 'utf8').split('\n')
  const id = lines.map((line) => line.split(':')).find(([name]) => name === group)?.[2]
  if (id !== undefined && /^\d{1,9}$/.test(id)) return Number(id)
  throw new LoamError('CONFIG_INVALID', `socket_group: /etc/group has no group ${JSON.stringify(group)}`, {
    hint: 'Give the number of the group if it comes from a directory service: getent group NAME.',
  })
}
