/*
 * The reads that wait for an answer, in a file that survives the process. The kernel itself writes an event into its slot, because the slot is
 * the memory that is read into: there is no moment at which an event was read and is not written down. A slot:
 *    0  64 bytes  the event as read(2) gives it; its first u32 is 0 while the slot is empty
 *   64  f64       turn: the order in which slots were used
 *   72  f64       inode of the file; 0 while it is not known
 *   80  u32       the answer that is being given; 0 before
 */
import {
  MappedFile,
  parseReadEvent,
  READ_EVENT_BYTES,
  type ReadAnswer,
  type ReadEvent,
} from '../linux/index.ts'

const SLOT_BYTES = 96
const TURN_AT = 64
const INODE_AT = 72
const ANSWER_AT = 80

/** Reads that can wait here at once. More wait in the kernel, which wakes all of them for each answer. */
export const JOURNAL_SLOTS = 1024

/** A read that was taken from the kernel by a process that has ended, and may not have been answered. */
export interface JournalEntry {
  readonly slot: number
  readonly event: ReadEvent
  readonly turn: number
  /** 0: the process ended before it knew. */
  readonly inode: number
  /** The answer that the process was giving when it ended; undefined: none. */
  readonly answer: ReadAnswer | undefined
}

/** The slots of the journal, for one thread. Each slot is used by one thread at a time. */
export class Journal {
  readonly #file: MappedFile

  /** @throws system errors */
  constructor(path: string) {
    this.#file = new MappedFile(path, JOURNAL_SLOTS * SLOT_BYTES)
  }

  /** Whether it was there. Otherwise it is not known who waits. */
  get existed(): boolean {
    return this.#file.existed
  }

  /** Waits for the next event of a group and reads it into an empty slot. Returns undefined if there was none. @throws system errors */
  read(slot: number, turn: number, group: number): ReadEvent | undefined {
    const at = slot * SLOT_BYTES
    // A kill while the slot was cleared may have left them.
    this.#file.bytes.fill(0, at + INODE_AT, at + SLOT_BYTES)
    this.#file.bytes.writeDoubleLE(turn, at + TURN_AT)
    this.#file.readFrom(group, at, READ_EVENT_BYTES)
    return parseReadEvent(this.#file.bytes, at)
  }

  /** Records the file of an event. */
  setInode(slot: number, inode: number): void {
    this.#file.bytes.writeDoubleLE(inode, slot * SLOT_BYTES + INODE_AT)
  }

  /** Records that an answer is about to be given. */
  setAnswer(slot: number, answer: ReadAnswer): void {
    this.#file.bytes.writeUInt32LE(answer, slot * SLOT_BYTES + ANSWER_AT)
  }

  /** Empties a slot. Its descriptor is still open, so that its number cannot have come again. */
  clear(slot: number): void {
    const at = slot * SLOT_BYTES
    this.#file.bytes.writeUInt32LE(0, at)
    this.#file.bytes.fill(0, at, at + SLOT_BYTES)
  }

  /** Lists what an earlier process has left, in the order in which it was read. */
  entries(): JournalEntry[] {
    const { bytes } = this.#file
    const slots = Array.from({ length: JOURNAL_SLOTS }, (_, slot) => slot)
    const entries = slots.flatMap((slot) => {
      const at = slot * SLOT_BYTES
      const event = parseReadEvent(bytes, at)
      if (event === undefined) return []
      const answer = bytes.readUInt32LE(at + ANSWER_AT)
      const known = answer === 0 ? undefined : (answer as ReadAnswer)
      const [turn, inode] = [bytes.readDoubleLE(at + TURN_AT), bytes.readDoubleLE(at + INODE_AT)]
      return [{ slot, event, turn, inode, answer: known }]
    })
    return entries.toSorted((a, b) => a.turn - b.turn)
  }
}
