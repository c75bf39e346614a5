/*
 * A thread that waits for reads of marked files. It answers what is here at once, also while the main thread is busy, and passes on what has to
 * wait. It never ends by itself; the process does.
 */
import { closeSync, fstatSync } from 'node:fs'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { ALLOW_READ, answerRead } from '../linux/index.ts'
import { Journal } from './journal.ts'
import {
  COUNTER,
  type EventThreadData,
  type LayerMessage,
  type MissedRead,
  type SharedLayer,
  spansOf,
} from './shared-reads.ts'

const { group, journal: path, firstTurn, slots, shared, layers: layersPort } = workerData as EventThreadData
const port = parentPort
const { counters, usedSlots, heldNumbers } = shared
const journal = new Journal(path)
const layers = new Map<number, SharedLayer>()
let layersVersion = 0
let slot = 0

for (let turn = firstTurn; ; turn += 1) {
  slot = freeSlot(slot)
  const event = journal.read(slot, turn, group)
  if (event === undefined) continue
  Atomics.add(counters, COUNTER.events, 1)
  const { fd, offset, count } = event
  // A lost event (FAN_NOFD) has nobody who waits.
  if (fd < 0) {
    journal.clear(slot)
    continue
  }
  const inode = fstatSync(fd).ino
  journal.setInode(slot, inode)
  if (isHere(inode, offset, count) && Atomics.load(heldNumbers, fd) === 0) allow(fd)
  else passOn({ slot, turn, fd, inode, offset, count })
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
