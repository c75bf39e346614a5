/*
 * A thread that waits for reads of marked files. It answers what is here at once, also while the main thread is busy, and passes on what has to
 * wait. It never ends by itself; the process does.
 */
import { closeSync, fstatSync } from 'node:fs'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { isErrno } from '../errors/index.ts'
import { ALLOW_READ, answerRead, type ReadEvent } from '../linux/index.ts'
import { Journal } from './journal.ts'
import {
  COUNTER,
  type EventThreadData,
  type LayerMessage,
  type MissedRead,
  type SharedLayer,
  spansOf,
} from './shared-reads.ts'
import { prioritizeAnswers } from './thread-priority.ts'

const { group, journal: path, firstTurn, slots, shared, layers: layersPort } = workerData as EventThreadData
/** Until it tries again when there are no descriptors. */
const SHORTAGE_MS = 10

const port = parentPort
const { counters, usedSlots, heldNumbers } = shared
const journal = new Journal(path)
const layers = new Map<number, SharedLayer>()
const pause = new Int32Array(new SharedArrayBuffer(4))
let layersVersion = 0
let slot = 0

prioritizeAnswers()
for (let turn = firstTurn; ; turn += 1) {
  slot = freeSlot(slot)
  const event = nextEvent(turn)
  if (event === undefined) continue
  Atomics.add(counters, COUNTER.events, 1)
  const { fd, pid, offset, count } = event
  // A lost event (FAN_NOFD) has nobody who waits.
  if (fd < 0) {
    journal.clear(slot)
    continue
  }
  const inode = fstatSync(fd).ino
  journal.setInode(slot, inode)
  if (isHere(inode, offset, count) && Atomics.load(heldNumbers, fd) === 0) allow(fd)
  else passOn({ slot, turn, fd, inode, pid, offset, count })
}

/** Without a descriptor for an event the kernel itself refuses that read; the next ones may have better luck. */
function nextEvent(turn: number): ReadEvent | undefined {
  try {
    return journal.read(slot, turn, group)
  } catch (error) {
    if (!isErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM')) throw error
    Atomics.add(counters, COUNTER.refused, 1)
    Atomics.wait(pause, 0, 0, SHORTAGE_MS)
    return undefined
  }
}

/** Waits until the main thread has answered one of its reads, when all slots are used. */
function freeSlot(from: number): number {
  for (;;) {
    const released = Atomics.load(counters, COUNTER.released)
    for (let step = 0; step < slots; step += 1) {
      const each = (from + step) % slots
      if (Atomics.load(usedSlots, each) === 0) return each
    }
    Atomics.wait(counters, COUNTER.released, released)
  }
}

function isHere(inode: number, offset: number, count: number): boolean {
  receiveLayers()
  const layer = layers.get(inode)
  if (layer === undefined) return false
  const [from, to] = spansOf(layer.tarStarts, offset, count)
  for (let span = from; span < to; span += 1) if (Atomics.load(layer.present, span) !== 1) return false
  return true
}

/** The main thread sends a layer before it marks its file. */
function receiveLayers(): void {
  const version = Atomics.load(counters, COUNTER.layers)
  if (version === layersVersion) return
  layersVersion = version
  for (
    let got = receiveMessageOnPort(layersPort);
    got !== undefined;
    got = receiveMessageOnPort(layersPort)
  ) {
    const message = got.message as LayerMessage
    if ('add' in message) layers.set(message.add.inode, message.add)
    else layers.delete(message.remove)
  }
}

/** The descriptor is closed last: until then its number cannot come again. */
function allow(fd: number): void {
  journal.setAnswer(slot, ALLOW_READ)
  answerRead(group, fd, ALLOW_READ)
  journal.clear(slot)
  closeSync(fd)
}

function passOn(read: MissedRead): void {
  Atomics.add(counters, COUNTER.misses, 1)
  Atomics.store(usedSlots, read.slot, 1)
  port?.postMessage(read)
}
