import { LoamError } from '../errors/index.ts'
import { type ContainerProcess, PROCESS_STATUSES } from '../containers/index.ts'
import type { PartialLayerInfo } from '../lazy/index.ts'
import type { ContainerInfo, RootfsInfo } from '../provisioner/index.ts'
import { parseExpression } from '../snapshotter/index.ts'
import { formatAge, shortCommand, shortDigest } from './format.ts'
import { filterOf, type ListDefinition, type ListField } from './lists.ts'
import { dataField } from './missing-data.ts'
import { BACKEND_NAMES } from './run-options.ts'

/** A row of `loam ps`: a root filesystem of a container, or a container without one. */
export interface ContainerRow {
  readonly container: ContainerInfo
  readonly rootfs: RootfsInfo | undefined
  /** Undefined: its state is not known. */
  readonly process: ContainerProcess | undefined
  /** Layers of the root filesystem whose data is not all here. */
  readonly partials: readonly PartialLayerInfo[]
}

/** Returns a row for each root filesystem. */
export function containerRows(
  containers: readonly ContainerInfo[],
  processes: readonly ContainerProcess[],
  partialLayers: readonly PartialLayerInfo[] = [],
): ContainerRow[] {
  return containers.flatMap((container): ContainerRow[] => {
    const process = processes.find(({ id }) => id === container.id)
    if (container.rootfses.length === 0) return [{ container, rootfs: undefined, process, partials: [] }]
    return container.rootfses.map((rootfs) => {
      const partials = partialLayers.filter(({ diffId }) => rootfs.layers.includes(diffId))
      return { container, rootfs, process, partials }
    })
  })
}

/** Returns whether a root filesystem should be mounted and is not. */
export function isUnmounted(rootfs: RootfsInfo | undefined): boolean {
  return rootfs?.state === 'ready' && !rootfs.isStanding
}

function createdAtMs({ container, rootfs }: ContainerRow): number {
  return rootfs?.createdAtMs ?? container.createdAtMs
}

/** Returns the state of the process; without one, that of the root filesystem. */
function stateOf({ rootfs, process }: ContainerRow): string {
  if (isUnmounted(rootfs)) return 'not mounted'
  const hasProcess = process !== undefined && process.status !== 'none' && rootfs?.volumeTarget === undefined
  return hasProcess ? process.status : (rootfs?.state ?? '-')
}

/** What `stateOf` can be. */
const STATES: readonly string[] = [
  ...PROCESS_STATUSES.filter((status) => status !== 'none'),
  ...(['provisioning', 'ready', 'destroying'] satisfies RootfsInfo['state'][]),
  'not mounted',
]

function statusOf(row: ContainerRow): string {
  const { exitStatus } = row.process ?? {}
  return stateOf(row) === 'exited' ? `exited (${exitStatus ?? 'unknown'})` : stateOf(row)
}

const FIELDS: readonly ListField<ContainerRow>[] = [
  { name: 'ID', heading: 'CONTAINER', text: ({ container }) => container.id },
  { name: 'Image', heading: 'IMAGE', text: ({ rootfs }) => rootfs?.reference ?? '-' },
  {
    name: 'ImageID',
    heading: 'DIGEST',
    text: ({ rootfs }, isFull) =>
      rootfs === undefined ? '-' : isFull ? rootfs.imageDigest : shortDigest(rootfs.imageDigest),
    leftOut: 2,
  },
  {
    name: 'Backend',
    heading: 'BACKEND',
    text: ({ rootfs }) =>
      rootfs === undefined ? '-' : `${rootfs.backend}${rootfs.isReadOnly ? ' (ro)' : ''}`,
    leftOut: 3,
  },
  { name: 'State', heading: 'STATE', text: stateOf, isHidden: true },
  { name: 'Status', heading: 'STATUS', text: statusOf },
  { name: 'RunningFor', heading: 'CREATED', text: (row) => formatAge(createdAtMs(row)), leftOut: 4 },
  { name: 'Rootfs', heading: 'ROOTFS', text: ({ rootfs }) => rootfs?.rootfsPath ?? '-', leftOut: 1 },
  {
    name: 'Pid',
    heading: 'PID',
    text: ({ process }) => (process?.pid === undefined ? '' : String(process.pid)),
    isHidden: true,
  },
  {
    name: 'Command',
    heading: 'COMMAND',
    // As in docker: quoted, and short.
    text: ({ process }, isFull) => {
      const words = process?.command?.join(' ')
      return words === undefined ? '' : JSON.stringify(isFull ? words : shortCommand(words))
    },
    isHidden: true,
  },
  // Nothing forwards ports, and formats of docker's users ask for them.
  { name: 'Ports', heading: 'PORTS', text: () => '', isHidden: true },
  { name: 'Names', heading: 'NAMES', text: ({ container }) => container.id, isHidden: true },
  {
    name: 'CreatedAt',
    heading: 'CREATED AT',
    text: (row) => new Date(createdAtMs(row)).toISOString(),
    isHidden: true,
  },
  { name: 'Parent', heading: 'PARENT', text: ({ container }) => container.parentId ?? '', isHidden: true },
]

/** As in docker and podman, a name is found by a regular expression that any part of it matches. @throws USAGE */
function byName(value: string): (row: ContainerRow) => boolean {
  const matches = parseExpression(value)
  // docker's own names begin with a slash.
  if (matches !== undefined) return ({ container: { id } }) => matches(id) || matches(`/${id}`)
  throw new LoamError('USAGE', `read --filter name: ${JSON.stringify(value)} is not a regular expression`)
}

/** Returns the list of containers: its columns, filters and orders. */
export function containerList(rows: readonly ContainerRow[]): ListDefinition<ContainerRow> {
  const createdAt = (key: string, id: string) => {
    const found = rows.find(({ container }) => container.id === id)
    if (found !== undefined) return createdAtMs(found)
    throw new LoamError('CONTAINER_NOT_FOUND', `read --filter ${key}: there is no container ${id}`)
  }
  return {
    fields: [...FIELDS, dataField(rows)],
    idOf: ({ container }) => container.id,
    filters: {
      id:
        (value) =>
        ({ container }) =>
          container.id.startsWith(value),
      name: byName,
      ancestor:
        (value) =>
        ({ rootfs }) =>
          isAncestor(rootfs, value),
      status: filterOf('status', STATES, stateOf),
      backend: filterOf('backend', BACKEND_NAMES, ({ rootfs }) => rootfs?.backend),
      before: (value) => {
        const limit = createdAt('before', value)
        return (row) => createdAtMs(row) < limit
      },
      since: (value) => {
        const limit = createdAt('since', value)
        return (row) => createdAtMs(row) > limit
      },
    },
    sorts: {
      '-created': createdAtMs,
      id: ({ container }) => container.id,
      names: ({ container }) => container.id,
      image: ({ rootfs }) => rootfs?.reference ?? '',
      status: stateOf,
    },
  }
}

/** For lists alone. An image may be named by its whole name, by its last part with or without the tag, or by the beginning of its digest. */
function isAncestor(rootfs: RootfsInfo | undefined, word: string): boolean {
  if (rootfs === undefined) return false
  const { reference, imageDigest } = rootfs
  const forms = [reference, reference.replace(/:[^:/]*$/, '')].flatMap((name) => [
    name,
    name.replace(/^docker\.io\/(?:library\/)?/, ''),
    name.slice(name.lastIndexOf('/') + 1),
  ])
  return forms.includes(word) || (/^(?:sha256:)?[0-9a-f]{6,}$/.test(word) && imageDigest.includes(word))
}
